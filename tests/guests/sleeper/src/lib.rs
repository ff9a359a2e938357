//! Waits in the host: no instruction of the guest runs, so nothing interrupts it there.

use std::time::Duration;

use gw_sdk::{Error, Request, Response, handler};

#[handler]
fn answer(_: Request) -> Result<Response, Error> {
    std::thread::sleep(Duration::from_secs(60));
    Ok(Response::new(200, "text/plain", "late"))
}
