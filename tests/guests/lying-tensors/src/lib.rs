//! Claims what is not so, and answers one line per lie: its name and the code of the error.

use gw_sdk::bindings::wasi::nn::graph::load_by_name;
use gw_sdk::bindings::wasi::nn::tensor::{Tensor, TensorType};
use gw_sdk::{Error, Request, Response, handler};

#[handler]
fn answer(_: Request) -> Result<Response, Error> {
    let f32s = |dims: &[u32], bytes: usize| Tensor::new(dims, TensorType::Fp32, &vec![0; bytes]);
    let lies = [
        ("too few bytes", vec![("x", f32s(&[1, 4], 15))]),
        ("too many bytes", vec![("x", f32s(&[1, 4], 17))]),
        ("a huge shape", vec![("x", f32s(&[u32::MAX; 4], 16))]),
        ("a deep shape", vec![("x", f32s(&[1; 1000], 4))]),
        ("another type", vec![("x", Tensor::new(&[1, 2], TensorType::I64, &[0; 16]))]),
        ("another rank", vec![("x", f32s(&[4], 16))]),
        ("another name", vec![("z", f32s(&[1, 4], 16))]),
        ("a long name", vec![(Box::leak("z".repeat(1 << 20).into_boxed_str()), f32s(&[1, 4], 16))]),
        ("no input", vec![]),
        ("an input twice", vec![("x", f32s(&[1, 4], 16)), ("x", f32s(&[1, 4], 16))]),
        (
            "too much at once",
            vec![("x", f32s(&[1, 5 << 18], 5 << 20)), ("z", f32s(&[1, 5 << 18], 5 << 20))],
        ),
    ];
    let mut answer = String::new();
    for (lie, inputs) in lies {
        let graph = load_by_name("double").map_err(gw_sdk::nn::Error::from)?;
        let context = graph.init_execution_context().map_err(gw_sdk::nn::Error::from)?;
        let inputs = inputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        let code = match context.compute(inputs) {
            Ok(_) => "believed".to_owned(),
            Err(error) => {
                assert!(error.data().len() <= 1024, "an error as long as the lie");
                format!("{:?}", error.code())
            }
        };
        answer += &format!("{lie}: {code}\n");
    }
    Ok(Response::new(200, "text/plain", answer))
}
