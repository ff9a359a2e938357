//! Hooks: from what the world gives to what [`Hooks`] takes, and back.

use serde::Serialize;

use crate::bindings::hooks as wit;
use crate::nn::{ElementType, Named, Outputs};
use crate::{Answer, Hooks, Outcome, Request, Response};

/// The hook `pre` of a component.
///
/// # Errors
/// Where the state has no JSON form.
pub fn pre<H: Hooks>(init: fn(), request: wit::Request) -> Result<wit::Outcome, String> {
    super::INIT.call_once(init);
    let wit::Request { method, path_with_query: path, headers, body } = request;
    Ok(match outcome::<H>(Request { method, path, headers, body }) {
        Outcome::Respond(answer) => wit::Outcome::Respond(response(answer)),
        Outcome::Pass(changed) => wit::Outcome::Pass(changed.map(self::request)),
        Outcome::Watch { request: changed, state } => {
            let (request, state) = (changed.map(self::request), pack(&state)?);
            wit::Outcome::Watch(wit::gw::plugin::types::Watch { request, state })
        }
        Outcome::Infer(inference) => {
            let (model, state) = (inference.model, pack(&inference.state)?);
            let inputs = inference.inputs.into_iter().map(|(name, input)| {
                let data = input.bytes().to_vec();
                let ty = to_wit(input.ty);
                wit::gw::plugin::types::Tensor { name, dimensions: input.dims, ty, data }
            });
            let inputs = inputs.collect();
            wit::Outcome::Infer(wit::gw::plugin::types::Inference { model, inputs, state })
        }
    })
}

/// The hook `post` of a component.
///
/// # Errors
/// Where the state is not one that this plugin gave.
pub fn post<H: Hooks>(
    init: fn(),
    state: Vec<u8>,
    answer: wit::Answer,
) -> Result<wit::Response, String> {
    super::INIT.call_once(init);
    let answer = match answer {
        wit::Answer::Response(answer) => {
            let wit::Response { status, headers, body } = answer;
            Answer::Response(Response { status, headers, body })
        }
        wit::Answer::Outputs(outputs) => {
            let outputs = outputs.into_iter().map(|output| {
                Named::here(output.name, output.dimensions, from_wit(output.ty), output.data)
            });
            Answer::Outputs(Outputs(outputs.collect()))
        }
    };
    answered::<H>(&state, answer).map(response)
}

/// What becomes of a request; an error is its answer.
pub(crate) fn outcome<H: Hooks>(request: Request) -> Outcome<H::State> {
    H::pre(request).unwrap_or_else(|error| Outcome::Respond(error.into()))
}

/// The response of `post`; an error of it is one too.
pub(crate) fn answered<H: Hooks>(state: &[u8], answer: Answer) -> Result<Response, String> {
    let state = serde_json::from_slice(state)
        .map_err(|error| format!("the state of the hooks cannot be read back: {error}"))?;
    Ok(H::post(state, answer).unwrap_or_else(Response::from))
}

/// A state on its way from `pre` to `post`.
pub(crate) fn pack(state: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(state)
        .map_err(|error| format!("the state of the hooks has no form in JSON: {error}"))
}

fn request(request: Request) -> wit::Request {
    let Request { method, path, headers, body } = request;
    wit::Request { method, path_with_query: path, headers, body }
}

fn response(response: Response) -> wit::Response {
    let Response { status, headers, body } = response;
    wit::Response { status, headers, body }
}

macro_rules! types {
    ($($name:ident)*) => {
        fn to_wit(ty: ElementType) -> wit::gw::plugin::types::TensorType {
            match ty {
                $(ElementType::$name => wit::gw::plugin::types::TensorType::$name,)*
            }
        }

        fn from_wit(ty: wit::gw::plugin::types::TensorType) -> ElementType {
            match ty {
                $(wit::gw::plugin::types::TensorType::$name => ElementType::$name,)*
            }
        }
    };
}

types! { Fp16 Fp32 Fp64 Bf16 U8 I32 I64 }
