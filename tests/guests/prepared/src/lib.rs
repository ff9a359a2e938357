//! Answers what its `init` read: on a prepared component, without a look at any file.

use std::sync::OnceLock;

use gw_sdk::{Error, Request, Response, handler};

static TABLE: OnceLock<String> = OnceLock::new();

fn prepare() {
    let table = std::fs::read_to_string("/assets/table.txt").expect("table.txt is an asset");
    TABLE.get_or_init(|| table);
}

#[handler(init = prepare)]
fn answer(_: Request) -> Result<Response, Error> {
    Ok(Response::new(200, "text/plain", TABLE.get().map_or("", String::as_str)))
}
