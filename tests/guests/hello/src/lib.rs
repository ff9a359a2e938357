//! The least that a handler can do; what serving it costs is the host's.

use gw_sdk::{Error, Plugin, Request, Response};

struct Hello;

gw_sdk::export!(Hello);

impl Plugin for Hello {
    fn handle(_: Request) -> Result<Response, Error> {
        Ok(Response::new(200, "text/plain", "hello"))
    }
}
