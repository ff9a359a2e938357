//! A component that is a program: `program MODEL INPUT=1,2,3 …` runs a model by its name on rows of
//! floats, and prints each output.

wit_bindgen::generate!({ path: "../../../sdk/wit/deps/nn.wit", world: "ml" });

use std::error::Error;
use std::process::ExitCode;

use wasi::nn::errors;
use wasi::nn::graph::load_by_name;
use wasi::nn::tensor::{Tensor, TensorType};

fn main() -> ExitCode {
    match infer() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn infer() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let model = args.next().ok_or("name a model")?;
    let graph = load_by_name(&model).map_err(told)?;
    let context = graph.init_execution_context().map_err(told)?;
    let inputs = args.map(|arg| input(&arg)).collect::<Result<Vec<_>, _>>()?;
    for (name, output) in context.compute(inputs).map_err(told)? {
        let floats = output.data();
        let floats = floats.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]]));
        let floats: Vec<String> = floats.map(|x| x.to_string()).collect();
        println!("{name} {:?} {}", output.dimensions(), floats.join(" "));
    }
    Ok(())
}

fn input(arg: &str) -> Result<(String, Tensor), Box<dyn Error>> {
    let (name, floats) = arg.rsplit_once('=').ok_or("an input is NAME=1,2,3")?;
    let floats = floats.split(',').map(str::parse).collect::<Result<Vec<f32>, _>>()?;
    let data: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
    let dims = [1, u32::try_from(floats.len())?];
    Ok((name.to_owned(), Tensor::new(&dims, TensorType::Fp32, &data)))
}

fn told(error: errors::Error) -> String {
    format!("{:?}: {}", error.code(), error.data())
}
