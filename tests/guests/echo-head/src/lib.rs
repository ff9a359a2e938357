//! Answers what it sees of its request, in one line.

use gw_sdk::{Error, Request, Response, handler};

#[handler]
fn answer(request: Request) -> Result<Response, Error> {
    let header = |name| request.header(name).unwrap_or_default();
    let (method, path, relayed) = (&request.method, &request.path, header("x-relayed"));
    let body = String::from_utf8_lossy(&request.body);
    let text = format!("{method} {path} relayed={relayed} {body}");
    Ok(Response::new(200, "text/plain", text))
}
