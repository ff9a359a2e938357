//! Waits in the host: no instruction of the guest runs, so nothing interrupts it there.

use std::time::Duration;

use gw_sdk::{Error, Plugin, Request, Response};

struct Sleeper;

gw_sdk::export!(Sleeper);

impl Plugin for Sleeper {
    fn handle(_: Request) -> Result<Response, Error> {
        std::thread::sleep(Duration::from_secs(60));
        Ok(Response::new(200, "text/plain", "late"))
    }
}
