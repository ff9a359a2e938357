//! Asks a model with ever larger tensors until it is refused, then traps with the refusal.

use gw_sdk::nn::{Graph, Tensor};
use gw_sdk::{Error, Plugin, Request, Response};

struct Giant;

gw_sdk::export!(Giant);

impl Plugin for Giant {
    fn handle(_: Request) -> Result<Response, Error> {
        let graph = Graph::load("double")?;
        for power in 10.. {
            let numbers = vec![1f32; 1 << power];
            let x = Tensor::new(&[1, numbers.len()], &numbers);
            drop(numbers);
            if let Err(error) = graph.compute(vec![("x", x)]) {
                panic!("refused: {error}");
            }
        }
        unreachable!("a range without an end");
    }
}
