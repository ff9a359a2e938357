//! Runs any model through the crate `wasi-nn`:
//!
//! `infer MODEL OUTPUT… -- INPUT…`, where MODEL is a name or `@FILE`, an OUTPUT is `BYTES:FILE`,
//! and an INPUT is `TYPE:1x128:FILE`. Files hold little-endian elements.

use std::error::Error;

use wasi_nn::{ExecutionTarget, GraphBuilder, GraphEncoding, TensorType};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let model = args.next().ok_or("name a model")?;
    let outputs: Vec<String> = args.by_ref().take_while(|arg| arg != "--").collect();

    let builder = GraphBuilder::new(GraphEncoding::Onnx, ExecutionTarget::AUTO);
    let graph = match model.strip_prefix('@') {
        Some(file) => builder.build_from_files([file])?,
        None => builder.build_from_cache(&model)?,
    };
    let mut context = graph.init_execution_context()?;
    for (index, input) in args.enumerate() {
        let [ty, dims, file] = parts(&input)?;
        let dims = dims.split('x').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        context.set_input(index, tensor_type(ty)?, &dims, std::fs::read(file)?)?;
    }
    context.compute()?;
    for (index, output) in outputs.iter().enumerate() {
        let (bytes, file) = output.split_once(':').ok_or("an output is BYTES:FILE")?;
        let mut data = vec![0u8; bytes.parse()?];
        let size = context.get_output(index, &mut data)?;
        std::fs::write(file, &data[..size])?;
        println!("{file}: {size} bytes");
    }
    Ok(())
}

fn parts(input: &str) -> Result<[&str; 3], Box<dyn Error>> {
    let parts: Vec<&str> = input.splitn(3, ':').collect();
    parts.try_into().map_err(|_| "an input is TYPE:1x128:FILE".into())
}

fn tensor_type(name: &str) -> Result<TensorType, Box<dyn Error>> {
    Ok(match name {
        "f16" => TensorType::F16,
        "f32" => TensorType::F32,
        "f64" => TensorType::F64,
        "u8" => TensorType::U8,
        "i32" => TensorType::I32,
        "i64" => TensorType::I64,
        _ => return Err("a type is f16, f32, f64, u8, i32 or i64".into()),
    })
}
