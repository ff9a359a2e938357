//! Calls the host as fast as it can, and keeps nothing.

use gw_sdk::{Error, Request, Response, handler};

#[handler]
fn answer(_: Request) -> Result<Response, Error> {
    loop {
        std::hint::black_box(std::time::Instant::now());
    }
}
