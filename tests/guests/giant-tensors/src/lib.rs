//! Asks a model with ever larger tensors until it is refused, then traps with the refusal.

use gw_sdk::nn::{Graph, Tensor};
use gw_sdk::{Error, Request, Response, handler};

#[handler]
fn answer(_: Request) -> Result<Response, Error> {
    let graph = Graph::load("double")?;
    for power in 10.. {
        let numbers = vec![1f32; 1 << power];
        let x = Tensor::new([1, numbers.len()], numbers)?;
        if let Err(error) = graph.compute([("x", x.into())]) {
            panic!("refused: {error}");
        }
    }
    unreachable!("a range without an end");
}
