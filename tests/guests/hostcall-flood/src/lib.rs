//! Calls the host as fast as it can, and keeps nothing.

use gw_sdk::{Error, Plugin, Request, Response};

struct Flood;

gw_sdk::export!(Flood);

impl Plugin for Flood {
    fn handle(_: Request) -> Result<Response, Error> {
        loop {
            std::hint::black_box(std::time::Instant::now());
        }
    }
}
