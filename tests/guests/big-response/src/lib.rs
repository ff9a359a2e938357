//! Answers without end, in pieces: all of it would not fit its own memory.

use gw_sdk::bindings::Guest;
use gw_sdk::bindings::exports::wasi::http::incoming_handler::{
    Guest as Handler, IncomingRequest, ResponseOutparam,
};
use gw_sdk::bindings::wasi::http::types::{Fields, OutgoingResponse};

struct Endless;

impl Guest for Endless {
    fn init() {}
}

impl Handler for Endless {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("a new response has a body");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("a new body has a stream");
        while stream.blocking_write_and_flush(&[b'x'; 4096]).is_ok() {}
    }
}

gw_sdk::bindings::export_component!(Endless with_types_in gw_sdk::bindings);
