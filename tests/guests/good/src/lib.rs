//! Sends its body, whitespace-separated numbers, through the model `double`.

use gw_sdk::nn::{Graph, Tensor};
use gw_sdk::{Error, Plugin, Request, Response};

struct Good;

gw_sdk::export!(Good);

impl Plugin for Good {
    fn handle(request: Request) -> Result<Response, Error> {
        let body = String::from_utf8_lossy(&request.body);
        let numbers: Vec<f32> = body.split_whitespace().filter_map(|x| x.parse().ok()).collect();
        let x = Tensor::new(&[1, numbers.len()], &numbers);
        let outputs = Graph::load("double")?.compute(vec![("x", x)])?;
        let doubled = outputs.read("y")?.to_vec::<f32>()?;
        let text: Vec<String> = doubled.iter().map(f32::to_string).collect();
        Ok(Response::new(200, "text/plain", text.join(" ")))
    }
}
