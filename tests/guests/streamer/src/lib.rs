//! Answers in pieces, as the header `x-do` says.

use std::time::Duration;

use gw_sdk::bindings::Guest;
use gw_sdk::bindings::exports::wasi::http::incoming_handler::{
    Guest as Handler, IncomingRequest, ResponseOutparam,
};
use gw_sdk::bindings::wasi::http::types::{Fields, IncomingBody, OutgoingBody, OutgoingResponse};
use gw_sdk::bindings::wasi::io::streams::{OutputStream, StreamError};

struct Streamer;

impl Guest for Streamer {
    fn init() {}
}

impl Handler for Streamer {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let wish = request.headers().get("x-do").pop().unwrap_or_default();
        let headers = Fields::new();
        let length = request.headers().get("x-length").pop();
        if let Some(length) = length {
            headers.append("content-length", &length).expect("a header");
        }
        headers.append("trailer", b"x-sum").expect("a header");
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("a new response has a body");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("a new body has a stream");
        let trailers = match wish.as_slice() {
            b"echo" => Some(echo(request, &stream)),
            b"endless" => {
                while write(&stream, &[b'x'; 4096]) {}
                None
            }
            // Reads its request a byte at a time, and none too soon.
            b"dawdle" => {
                let incoming = request.consume().expect("it was not taken");
                let from = incoming.stream().expect("it was not taken");
                while from.blocking_read(1).is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                }
                None
            }
            b"trap" => {
                write(&stream, b"half");
                // Long enough for the half to be on its way before the trap.
                std::thread::sleep(Duration::from_millis(100));
                panic!("in a mood");
            }
            b"wait" => {
                write(&stream, b"first");
                std::thread::sleep(Duration::from_mins(1));
                None
            }
            b"slow" => {
                for piece in ["one ", "two ", "three"] {
                    write(&stream, piece.as_bytes());
                    std::thread::sleep(Duration::from_millis(50));
                }
                None
            }
            // Leaves its body open.
            b"drop" => {
                write(&stream, b"half");
                std::thread::sleep(Duration::from_millis(100));
                drop(stream);
                drop(body);
                return;
            }
            other => {
                write(&stream, other);
                None
            }
        };
        drop(stream);
        let _ = OutgoingBody::finish(body, trailers);
    }
}

/// Says whether anybody still reads.
fn write(stream: &OutputStream, bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|piece| stream.blocking_write_and_flush(piece).is_ok())
}

/// Writes each piece of the request as it comes; the trailers are the request's and the sum.
fn echo(request: IncomingRequest, to: &OutputStream) -> Fields {
    let incoming = request.consume().expect("it was not taken");
    let from = incoming.stream().expect("it was not taken");
    let mut bytes = 0;
    loop {
        match from.blocking_read(1 << 16) {
            Ok(piece) => {
                bytes += piece.len();
                write(to, &piece);
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(_)) => panic!("the request broke off"),
        }
    }
    drop(from);
    let came = IncomingBody::finish(incoming);
    let came = loop {
        match came.get() {
            Some(came) => break came.expect("asked once").expect("the body was good"),
            None => came.subscribe().block(),
        }
    };
    let trailers = came.map_or_else(Fields::new, |trailers| trailers.clone());
    let sent = trailers.get("x-sent").pop().unwrap_or_default();
    let sum = [bytes.to_string().as_bytes(), b" ", &sent].concat();
    trailers.append("x-sum", &sum).expect("a header");
    trailers
}

gw_sdk::bindings::export_component!(Streamer with_types_in gw_sdk::bindings);
