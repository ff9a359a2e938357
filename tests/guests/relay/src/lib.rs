//! Sends its request on to `next` and answers what comes back, both bodies as they come; or does
//! what the header `x-relay` says.

use gw_sdk::bindings::Guest;
use gw_sdk::bindings::exports::wasi::http::incoming_handler::{
    Guest as Handler, IncomingRequest, ResponseOutparam,
};
use gw_sdk::bindings::wasi::http::outgoing_handler::handle;
use gw_sdk::bindings::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, OutgoingBody,
    OutgoingRequest, OutgoingResponse, Scheme,
};
use gw_sdk::bindings::wasi::io::streams::StreamError;

struct Relay;

impl Guest for Relay {
    fn init() {}
}

impl Handler for Relay {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let wish = request.headers().get("x-relay").pop().unwrap_or_default();
        match wish.as_slice() {
            b"panic" => panic!("in a mood"),
            b"early" => return answer(out, 203, "early"),
            // Whether the body is whole when it fails depends on nothing but the host.
            b"read-panic" => {
                let body = request.consume().expect("it was not taken");
                let stream = body.stream().expect("it was not taken");
                while stream.blocking_read(1 << 16).is_ok() {}
                panic!("in a mood");
            }
            _ => {}
        }
        let (sent, outgoing) = send(&request, "next").expect("the request is good");
        let incoming = request.consume().expect("it was not taken");
        copy(incoming, outgoing, false);
        let answered = match wait(&sent) {
            Ok(answered) => answered,
            Err(error) => return answer(out, 502, &format!("next failed: {error:?}")),
        };
        match wish.as_slice() {
            b"late-panic" => panic!("in a mood"),
            b"twice" => {
                let (again, body) = send(&request, "next").expect("the request is good");
                OutgoingBody::finish(body, None).expect("an empty body");
                let again = wait(&again).map(|_| "again").map_err(|error| error.to_string());
                return answer(out, 200, &format!("{again:?}"));
            }
            b"elsewhere" => {
                let (other, body) = send(&request, "example.com").expect("the request is good");
                OutgoingBody::finish(body, None).expect("an empty body");
                let other = wait(&other).map(|_| "there").map_err(|error| error.to_string());
                return answer(out, 200, &format!("{other:?}"));
            }
            _ => {}
        }
        pass(&answered, out, wish == b"shout");
    }
}

/// A request like `request` to `authority`, with its body still to write.
fn send(
    request: &IncomingRequest,
    authority: &str,
) -> Result<(FutureIncomingResponse, OutgoingBody), ErrorCode> {
    let headers = request.headers().clone();
    headers.set("x-relayed", &[b"yes".to_vec()]).expect("a header");
    let outgoing = OutgoingRequest::new(headers);
    outgoing.set_method(&request.method()).expect("a method");
    outgoing.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    outgoing.set_authority(Some(authority)).expect("an authority");
    outgoing.set_path_with_query(request.path_with_query().as_deref()).expect("a path");
    let body = outgoing.body().expect("a new request has a body");
    Ok((handle(outgoing, None)?, body))
}

fn wait(sent: &FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    loop {
        match sent.get() {
            Some(answered) => return answered.expect("it is asked for once"),
            None => sent.subscribe().block(),
        }
    }
}

fn pass(answered: &IncomingResponse, out: ResponseOutparam, shout: bool) {
    let headers = answered.headers().clone();
    headers.set("x-relay-answer", &[b"yes".to_vec()]).expect("a header");
    let response = OutgoingResponse::new(headers);
    response.set_status_code(answered.status()).expect("a status");
    let body = response.body().expect("a new response has a body");
    ResponseOutparam::set(out, Ok(response));
    copy(answered.consume().expect("it was not taken"), body, shout);
}

/// Copies a body as it comes, with its trailers.
fn copy(incoming: IncomingBody, outgoing: OutgoingBody, shout: bool) {
    let from = incoming.stream().expect("a body has a stream");
    let to = outgoing.write().expect("a body has a stream");
    loop {
        let mut bytes = match from.blocking_read(1 << 16) {
            Ok(bytes) => bytes,
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(_)) => panic!("the body broke off"),
        };
        if shout {
            bytes.make_ascii_uppercase();
        }
        for piece in bytes.chunks(4096) {
            // A reader that left needs no more.
            let _ = to.blocking_write_and_flush(piece);
        }
    }
    drop((from, to));
    let trailers = IncomingBody::finish(incoming);
    let trailers = loop {
        match trailers.get() {
            Some(trailers) => break trailers.expect("asked once").expect("the body was good"),
            None => trailers.subscribe().block(),
        }
    };
    let trailers = trailers.map(|trailers| trailers.clone());
    OutgoingBody::finish(outgoing, trailers).expect("the body is whole");
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("a new response has a body");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("a new body has a stream");
    let _ = stream.blocking_write_and_flush(text.as_bytes());
    drop(stream);
    OutgoingBody::finish(body, None).expect("the body is whole");
}

gw_sdk::bindings::export_component!(Relay with_types_in gw_sdk::bindings);
