//! The least that a handler can do; what serving it costs is the host's.

use gw_sdk::{Error, Request, Response, handler};

#[handler]
fn answer(_: Request) -> Result<Response, Error> {
    Ok(Response::new(200, "text/plain", "hello"))
}
