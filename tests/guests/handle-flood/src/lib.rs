//! Makes tensors and keeps them all.

use gw_sdk::bindings::wasi::nn::tensor::{Tensor, TensorType};
use gw_sdk::{Error, Request, Response, handler};

#[handler]
fn answer(_: Request) -> Result<Response, Error> {
    let mut kept = Vec::new();
    loop {
        kept.push(Tensor::new(&[1], TensorType::U8, &[0]));
    }
}
