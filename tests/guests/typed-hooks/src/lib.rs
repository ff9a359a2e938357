//! Hooks as the SDK has them: a list of numbers goes through the model `double`; a word is passed
//! on, and what comes back is answered in capitals. Both begin with what `init` left.

use std::sync::OnceLock;

use gw_sdk::nn::Tensor;
use gw_sdk::{Answer, Error, Hooks, Outcome, Request, Response, hooks};

static GREETING: OnceLock<String> = OnceLock::new();

fn prepare() -> Result<(), String> {
    GREETING.set("init says".to_owned())
}

struct Typed;

#[hooks(init = prepare)]
impl Hooks for Typed {
    type State = usize;

    fn pre(request: Request) -> Result<Outcome<usize>, Error> {
        let count = request.body.len();
        if request.body.starts_with(b"word") {
            return Ok(Outcome::Watch { request: None, state: count });
        }
        let numbers: Vec<f32> = request.json()?;
        let x = Tensor::new([1, numbers.len()], numbers)?;
        Ok(Outcome::infer("double", [("x", x.into())], count))
    }

    fn post(count: usize, answer: Answer) -> Result<Response, Error> {
        let text = match answer {
            Answer::Outputs(outputs) => {
                let y = outputs.read::<f32>("y")?.expect_dims([Some(1), None])?;
                format!("{:?}", y.as_slice())
            }
            Answer::Response(response) => {
                String::from_utf8_lossy(&response.body).to_ascii_uppercase()
            }
        };
        let greeting = GREETING.get().map_or("nothing", String::as_str);
        Ok(Response::new(200, "text/plain", format!("{greeting} {count} {text}")))
    }
}
