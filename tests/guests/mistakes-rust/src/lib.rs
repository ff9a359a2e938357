//! One mistake for each path; the tests know the lines.

use gw_sdk::nn::{Graph, Input, Tensor};
use gw_sdk::outbound::Outgoing;
use gw_sdk::{Error, Json, Request, handler};

fn double(values: Input) -> Result<Vec<f32>, Error> {
    let outputs = Graph::load("double")?.compute([("x", values)])?;
    Ok(outputs.read::<f32>("y")?.into_vec())
}

fn floats() -> Result<Input, Error> {
    Ok(Tensor::new([1, 4], [1.0f32, 2.0, 3.0, 4.0])?.into())
}

fn endless() -> Result<Vec<f32>, Error> {
    let mut sum = 0u64;
    loop {
        sum = std::hint::black_box(sum.wrapping_add(1));
    }
}

#[handler]
fn answer(request: Request) -> Result<Json<Vec<f32>>, Error> {
    let values: Vec<f32> = Vec::new();
    Ok(Json(match request.path.as_str() {
        "/type" => double(Tensor::new([1, 4], [1i64, 2, 3, 4])?.into())?,
        "/shape" => double(Tensor::new([1, 4], [1.0f32, 2.0, 3.0])?.into())?,
        "/output" => {
            let outputs = Graph::load("double")?.compute([("x", floats()?)])?;
            outputs.read::<f32>("z")?.into_vec()
        }
        "/grant" => Graph::load("triple").map(|_| Vec::new())?,
        "/host" => Outgoing::new("GET", "http://example.com/").send().map(|_| Vec::new())?,
        "/index" => vec![values[request.body.len()]],
        "/memory" => vec![1.0; 1 << 27],
        "/endless" => endless()?,
        _ => double(floats()?)?,
    }))
}
