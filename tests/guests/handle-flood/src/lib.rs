//! Makes tensors and keeps them all.

use gw_sdk::bindings::wasi::nn::tensor::{Tensor, TensorType};
use gw_sdk::{Error, Plugin, Request, Response};

struct Flood;

gw_sdk::export!(Flood);

impl Plugin for Flood {
    fn handle(_: Request) -> Result<Response, Error> {
        let mut kept = Vec::new();
        loop {
            kept.push(Tensor::new(&[1], TensorType::U8, &[0]));
        }
    }
}
