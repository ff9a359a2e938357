//! Answers what its `init` read: on a prepared component, without a look at any file.

use std::sync::OnceLock;

use gw_sdk::{Error, Plugin, Request, Response};

static TABLE: OnceLock<String> = OnceLock::new();

struct Prepared;

gw_sdk::export!(Prepared);

impl Plugin for Prepared {
    fn init() {
        let table = std::fs::read_to_string("/assets/table.txt").expect("table.txt is an asset");
        TABLE.get_or_init(|| table);
    }

    fn handle(_: Request) -> Result<Response, Error> {
        Ok(Response::new(200, "text/plain", TABLE.get().map_or("", String::as_str)))
    }
}
