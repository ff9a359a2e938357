//! Sends its body, whitespace-separated numbers, through the model `double`.

use gw_sdk::nn::{Graph, Tensor};
use gw_sdk::{Error, Request, Response, handler};

#[handler]
fn answer(request: Request) -> Result<Response, Error> {
    let body = String::from_utf8_lossy(&request.body);
    let numbers: Vec<f32> = body.split_whitespace().filter_map(|x| x.parse().ok()).collect();
    let x = Tensor::new([1, numbers.len()], numbers)?;
    let doubled = Graph::load("double")?.compute([("x", x.into())])?.read::<f32>("y")?;
    let text: Vec<String> = doubled.as_slice().iter().map(f32::to_string).collect();
    Ok(Response::new(200, "text/plain", text.join(" ")))
}
