//! Does what its body says.

use gw_sdk::{Error, Request, Response, handler};

#[handler]
fn answer(request: Request) -> Result<Response, Error> {
    match request.body.as_slice() {
        b"panic" => panic!("in a mood"),
        b"exit" => std::process::exit(3),
        b"print" => println!("a line\nanother"),
        b"refuse" => return Err(Error::new(418, "teapot", "no coffee").field("body")),
        b"header" => return Ok(Response::new(200, "text/plain\r\nx-evil: 1", "")),
        _ => {}
    }
    Ok(Response::new(200, "text/plain", request.body))
}
