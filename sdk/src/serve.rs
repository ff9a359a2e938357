//! The bridge between a plugin and the worlds of `sdk/wit`; what the macros make calls it.

use std::fmt::Display;
use std::sync::Once;

use crate::bindings::wasi::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use crate::bindings::wasi::io::streams::{OutputStream, StreamError};
use crate::{Error, Request, Response};

pub use self::hooks::{Parts, answered, outcome, outputs, pack, parts};

mod hooks;

/// What one read asks for; the host gives what it has, up to this.
const READ_BYTES: u64 = 1 << 20;

static INIT: Once = Once::new();

/// What a function that runs once may give.
pub trait Prepared {
    /// Panics where it failed: the build of the plugin then fails with these words.
    fn finish(self);
}

impl Prepared for () {
    fn finish(self) {}
}

impl<E: Display> Prepared for Result<(), E> {
    fn finish(self) {
        if let Err(error) = self {
            panic!("init failed: {error}");
        }
    }
}

/// Runs the plugin's `init` when the component is built.
pub fn init(init: fn()) {
    INIT.call_once(init);
    #[cfg(target_arch = "wasm32")]
    fill_holes();
}

/// Takes all memory that `init` freed, so that requests allocate in one piece behind it.
///
/// Every instance maps the memory that `init` left and copies a page when it first writes to it.
/// An allocator that reuses holes all over that memory costs a page fault for each; parsing a
/// tokenizer leaves thousands. What is taken is zeroed, which also keeps it out of the component.
#[cfg(target_arch = "wasm32")]
fn fill_holes() {
    use core::arch::wasm32::memory_size;
    let pages = memory_size(0);
    // The first chunk for which the memory had to grow lies behind all holes.
    let mut behind = 0;
    while memory_size(0) == pages {
        let chunk = vec![0u8; 64 << 10];
        behind = chunk.as_ptr().addr();
        std::mem::forget(chunk);
    }
    for bytes in [16 << 10, 4 << 10, 1 << 10, 256, 64, 16] {
        loop {
            let chunk = vec![0u8; bytes];
            if chunk.as_ptr().addr() >= behind {
                break;
            }
            std::mem::forget(chunk);
        }
    }
}

/// Runs the plugin's `init` where the component was not prepared: in every request.
pub fn initialise(init: fn()) {
    INIT.call_once(init);
}

/// Answers one request.
pub fn handle(
    init: fn(),
    respond: fn(Request) -> Response,
    request: &IncomingRequest,
    out: ResponseOutparam,
) {
    initialise(init);
    write(&read(request).map_or_else(Response::from, respond), out);
}

fn read(request: &IncomingRequest) -> Result<Request, Error> {
    let unreadable = |what| Error::new(400, "unreadable_body", what).field("body");
    let method = match request.method() {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Connect => "CONNECT".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Trace => "TRACE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Other(method) => method,
    };
    let path = request.path_with_query().unwrap_or_else(|| "/".to_owned());
    let headers = request.headers().entries();
    let incoming = request.consume().map_err(|()| unreadable("the body was taken"))?;
    let body = read_body(&incoming).map_err(|_| unreadable("the body ended early"))?;
    Ok(Request { method, path, headers, body })
}

pub(crate) fn read_body(incoming: &IncomingBody) -> Result<Vec<u8>, StreamError> {
    let stream = incoming.stream().map_err(|()| StreamError::Closed)?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(bytes) if body.is_empty() => body = bytes,
            Ok(bytes) => body.extend_from_slice(&bytes),
            Err(StreamError::Closed) => return Ok(body),
            Err(error) => return Err(error),
        }
    }
}

fn write(response: &Response, out: ResponseOutparam) {
    // A header that HTTP does not allow is the plugin's mistake, and no reason to say nothing.
    let (headers, status) = match Fields::from_list(&response.headers) {
        Ok(headers) => (headers, response.status),
        Err(_) => (Fields::new(), 500),
    };
    let outgoing = OutgoingResponse::new(headers);
    if outgoing.set_status_code(status).is_err() {
        // 500 is a status; setting it cannot fail.
        let _ = outgoing.set_status_code(500);
    }
    let body = outgoing.body().expect("a new response still has its body");
    ResponseOutparam::set(out, Ok(outgoing));
    let stream = body.write().expect("a new body still has its stream");
    // A client that left needs no answer.
    let written = write_body(&stream, &response.body);
    drop(stream);
    if written.is_ok() {
        let _ = OutgoingBody::finish(body, None);
    }
}

/// Writes as much at a time as the host takes; the blocking call of WASI takes only 4 KiB.
pub(crate) fn write_body(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, rest) = bytes.split_at(room.min(bytes.len()));
        stream.write(now)?;
        bytes = rest;
    }
    Ok(())
}
