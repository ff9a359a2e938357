//! Hooks that send numbers through the model `double`, or do what the first word of the body says.

wit_bindgen::generate!({ path: "../../../sdk/wit", world: "hooks" });

use gw::plugin::types::{Inference, Tensor, TensorType, Watch};

struct Hooked;

export!(Hooked);

impl Guest for Hooked {
    fn pre(mut request: Request) -> Result<Outcome, String> {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let (word, rest) = body.split_once(' ').unwrap_or((&body, ""));
        let tag = request.headers.iter().find(|(name, _)| name == "x-tag");
        let tag = tag.map(|(_, value)| value.clone()).unwrap_or_default();
        let numbers = |text: &str| -> Vec<f32> {
            text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
        };
        match word {
            "panic" => panic!("in a mood"),
            "error" => return Err("no luck".to_owned()),
            "spin" => loop {
                std::hint::black_box(0);
            },
            "respond" => return Ok(Outcome::Respond(response(418, "early"))),
            "status" => return Ok(Outcome::Respond(response(99, ""))),
            "header" => {
                let mut response = response(200, "");
                response.headers.push(("x y".to_owned(), b"z".to_vec()));
                return Ok(Outcome::Respond(response));
            }
            "pass" => return Ok(Outcome::Pass(None)),
            "rewrite" => {
                rest.as_bytes().clone_into(&mut request.body);
                request.headers.push(("x-pre".to_owned(), b"yes".to_vec()));
                return Ok(Outcome::Pass(Some(request)));
            }
            "method" => {
                request.method = "NO GOOD".to_owned();
                return Ok(Outcome::Pass(Some(request)));
            }
            "watch" | "watch-panic" => {
                rest.as_bytes().clone_into(&mut request.body);
                let state = word.as_bytes().to_vec();
                return Ok(Outcome::Watch(Watch { request: Some(request), state }));
            }
            "ungranted" => return Ok(infer("secret", vec![tensor(&[1.0])], tag)),
            "misfit" => {
                let x = Tensor { name: "z".to_owned(), ..tensor(&[1.0]) };
                return Ok(infer("double", vec![x], tag));
            }
            "lie" => {
                let x = Tensor { dimensions: vec![1, 7], ..tensor(&[1.0]) };
                return Ok(infer("double", vec![x], tag));
            }
            "post-panic" => return Ok(infer("double", vec![tensor(&numbers(rest))], b"!".into())),
            _ => {}
        }
        Ok(infer("double", vec![tensor(&numbers(&body))], tag))
    }

    fn post(state: Vec<u8>, answer: Answer) -> Result<Response, String> {
        let state = String::from_utf8(state).map_err(|error| error.to_string())?;
        match answer {
            Answer::Outputs(outputs) => {
                assert_ne!(state, "!", "as it was asked");
                let [y] = outputs.as_slice() else { return Err("one output".to_owned()) };
                let bytes = y.data.chunks_exact(4).map(|bytes| bytes.try_into().unwrap());
                let text: Vec<String> = bytes.map(|x| f32::from_le_bytes(x).to_string()).collect();
                Ok(response(200, &format!("{}{state}", text.join(" "))))
            }
            Answer::Response(mut answered) => {
                assert_ne!(state, "watch-panic", "as it was asked");
                answered.body.make_ascii_uppercase();
                answered.headers.push(("x-post".to_owned(), state.into_bytes()));
                Ok(answered)
            }
        }
    }
}

fn infer(model: &str, inputs: Vec<Tensor>, state: Vec<u8>) -> Outcome {
    Outcome::Infer(Inference { model: model.to_owned(), inputs, state })
}

fn tensor(numbers: &[f32]) -> Tensor {
    let length = u32::try_from(numbers.len()).unwrap();
    let data = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    Tensor { name: "x".to_owned(), dimensions: vec![1, length], ty: TensorType::Fp32, data }
}

fn response(status: u16, text: &str) -> Response {
    let headers = vec![("content-type".to_owned(), b"text/plain".to_vec())];
    Response { status, headers, body: text.as_bytes().to_vec() }
}
