//! Loads what it was not granted, and answers one line per try: the code of the error.

use gw_sdk::bindings::wasi::nn::graph::{ExecutionTarget, GraphEncoding, load, load_by_name};
use gw_sdk::{Error, Request, Response, handler};

#[handler]
fn answer(_: Request) -> Result<Response, Error> {
    let mut answer = String::new();
    for name in ["secret", "", "../secret", "/etc/passwd", "DOUBLE"] {
        let code = load_by_name(name).map(drop).map_err(|error| error.code());
        answer += &format!("{name}: {code:?}\n");
    }
    let code = load(&[vec![1, 2, 3]], GraphEncoding::Onnx, ExecutionTarget::Cpu);
    answer += &format!("bytes: {:?}\n", code.map(drop).map_err(|error| error.code()));
    Ok(Response::new(200, "text/plain", answer))
}
