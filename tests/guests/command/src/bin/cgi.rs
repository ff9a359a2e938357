//! Answers requests the CGI way; the path says how.

use std::error::Error;
use std::io::Read;

use wasi_nn::{ExecutionTarget, GraphBuilder, GraphEncoding, TensorType};

fn main() -> Result<(), Box<dyn Error>> {
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body)?;
    match variable("PATH_INFO").as_str() {
        "/variables" => {
            let mut all: Vec<_> = std::env::vars().map(|(k, v)| format!("{k}={v}")).collect();
            all.sort();
            println!("Content-Type: text/plain\n\n{}", all.join("\n"));
        }
        "/double" => {
            let numbers = String::from_utf8(body)?;
            let numbers: Vec<f32> =
                numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
            let doubled: Vec<String> = double(&numbers)?.iter().map(f32::to_string).collect();
            print!("Content-Type: text/plain\r\n\r\n{}", doubled.join(" "));
        }
        "/missing" => print!("Status: 404 Nothing Here\nContent-Type: text/plain\n\nnothing"),
        "/moved" => print!("Location: /elsewhere\n\n"),
        "/asset" => {
            let text = std::fs::read_to_string("/assets/table.txt")?;
            print!("Content-Type: text/plain\n\n{text}");
        }
        "/chatty" => {
            eprintln!("a word for people");
            print!("hello\n");
        }
        "/silent" => {}
        "/exit" => std::process::exit(3),
        "/panic" => panic!("as asked"),
        "/endless" => loop {
            std::hint::black_box(());
        },
        "/flood" => loop {
            println!("{}", "x".repeat(1 << 16));
        },
        _ => {
            print!("Content-Type: application/octet-stream\n\n");
            std::io::Write::write_all(&mut std::io::stdout(), &body)?;
        }
    }
    Ok(())
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn double(numbers: &[f32]) -> Result<Vec<f32>, wasi_nn::Error> {
    let builder = GraphBuilder::new(GraphEncoding::Onnx, ExecutionTarget::CPU);
    let graph = builder.build_from_cache("double")?;
    let mut context = graph.init_execution_context()?;
    context.set_input(0, TensorType::F32, &[1, numbers.len()], numbers)?;
    context.compute()?;
    let mut doubled = vec![0f32; numbers.len()];
    context.get_output(0, &mut doubled)?;
    Ok(doubled)
}
