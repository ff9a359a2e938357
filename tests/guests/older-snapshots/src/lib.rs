//! Speaks the two older snapshots of wasi-nn. Its body names one and gives numbers, which go
//! through the model `double`: each call of the snapshot is a line of the answer.

use gw_sdk::{Error, Request, Response, handler};

#[handler]
fn answer(request: Request) -> Result<Response, Error> {
    let body = String::from_utf8_lossy(&request.body);
    let (snapshot, numbers) = body.split_once(' ').unwrap_or((&body, ""));
    let numbers = numbers.split_whitespace().filter_map(|x| x.parse().ok()).collect::<Vec<_>>();
    let answer = match snapshot {
        "2024-08-19" => august::lines(&numbers),
        _ => june::lines(&numbers) + &june_error(),
    };
    Ok(Response::new(200, "text/plain", answer))
}

/// In this snapshot a guest makes errors of its own.
fn june_error() -> String {
    use june::bindings::wasi::nn::errors::{Error, ErrorCode};
    let error = Error::new(ErrorCode::Security, "made here");
    format!("own error: {:?} {}\n", error.code(), error.data())
}

macro_rules! snapshot {
    ($snapshot:ident, $wit:tt) => {
        mod $snapshot {
            pub mod bindings {
                gw_sdk::wit_bindgen::generate!({
                    path: $wit,
                    world: "ml",
                    runtime_path: "gw_sdk::wit_bindgen::rt",
                });
            }

            use bindings::wasi::nn::graph::load_by_name;
            use bindings::wasi::nn::tensor::{Tensor, TensorType};

            pub fn lines(numbers: &[f32]) -> String {
                let code = |error: bindings::wasi::nn::errors::Error| error.code();
                let tensor = |numbers: &[f32]| {
                    let data: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
                    Tensor::new(&[1, numbers.len() as u32], TensorType::Fp32, &data)
                };
                let read = |tensor: Tensor| {
                    let data = tensor.data();
                    let data = data.chunks_exact(4).map(|x| {
                        f32::from_le_bytes(x.try_into().expect("four bytes")).to_string()
                    });
                    let shape = tensor.dimensions();
                    format!("{:?} {shape:?} {}", tensor.ty(), data.collect::<Vec<_>>().join(" "))
                };
                let graph = load_by_name("double").expect("granted");
                let context = graph.init_execution_context().expect("a context");
                let mut lines = Vec::new();
                let mut line = |call: &str, result: String| lines.push(format!("{call}: {result}"));

                let early = context.get_output("y").map(read).map_err(code);
                line("output before compute", format!("{early:?}"));
                let unbound = context.compute().map_err(code);
                line("compute without input", format!("{unbound:?}"));
                let unknown = context.set_input("0", tensor(numbers)).map_err(code);
                line("unknown input", format!("{unknown:?}"));
                let short = Tensor::new(&[2, 2], TensorType::Fp32, &[0; 15]);
                line("lie", format!("{:?}", context.set_input("x", short).map_err(code)));
                let first = context.set_input("x", tensor(&[7.0])).map_err(code);
                line("input", format!("{first:?}"));
                let again = context.set_input("x", tensor(numbers)).map_err(code);
                line("input again", format!("{again:?}"));
                line("compute", format!("{:?}", context.compute().map_err(code)));
                let unknown = context.get_output("Y").map(read).map_err(code);
                line("unknown output", format!("{unknown:?}"));
                for _ in 0..2 {
                    let output = context.get_output("y").map(read).map_err(code);
                    line("output", format!("{output:?}"));
                }
                // An output of one context is an input of another, and is still there.
                let next = graph.init_execution_context().expect("a context");
                let fed = context.get_output("y").and_then(|y| next.set_input("x", y));
                line("feed", format!("{:?}", fed.map_err(code)));
                // What is bound stays bound, and a model with state goes on.
                for _ in 0..2 {
                    line("compute", format!("{:?}", next.compute().map_err(code)));
                    let output = next.get_output("y").map(read).map_err(code);
                    line("output", format!("{output:?}"));
                }
                let absent = load_by_name("absent").map(drop).map_err(code);
                line("ungranted", format!("{absent:?}"));
                lines.join("\n") + "\n"
            }
        }
    };
}

snapshot!(june, "../../../sdk/wit/older/nn-2024-06-25.wit");
snapshot!(august, "../../../sdk/wit/older/nn-2024-08-19.wit");
