//! Hooks: from what the world gives to what [`Hooks`] takes, and back.

use serde::Serialize;

use crate::nn::{ElementType, Input, Named, Outputs};
use crate::{Answer, Hooks, Outcome, Request, Response};

/// What becomes of a request; an error is its answer.
pub fn outcome<H: Hooks>(request: Request) -> Outcome<H::State> {
    H::pre(request).unwrap_or_else(|error| Outcome::Respond(error.into()))
}

/// The response of `post`; an error of it is one too.
///
/// # Errors
/// Where the state is not one that this plugin gave.
pub fn answered<H: Hooks>(state: &[u8], answer: Answer) -> Result<Response, String> {
    let state = serde_json::from_slice(state)
        .map_err(|error| format!("the state of the hooks cannot be read back: {error}"))?;
    Ok(H::post(state, answer).unwrap_or_else(Response::from))
}

/// A state on its way from `pre` to `post`.
///
/// # Errors
/// Where it has no form in JSON.
pub fn pack(state: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(state)
        .map_err(|error| format!("the state of the hooks has no form in JSON: {error}"))
}

/// A tensor's dimensions, type and little-endian elements.
pub type Parts = (Vec<u32>, ElementType, Vec<u8>);

/// What an input is made of.
pub fn parts(input: &Input) -> Parts {
    (input.dims.clone(), input.ty, input.bytes().to_vec())
}

/// The outputs of these names.
pub fn outputs(tensors: impl Iterator<Item = (String, Parts)>) -> Outputs {
    Outputs(tensors.map(|(name, (dims, ty, data))| Named::here(name, dims, ty, data)).collect())
}

/// Makes the component of hooks. Its bindings are made where the hooks are: in a library, the types
/// of their world would be imports of every plugin. `$wit` is the text of `wit/hooks.wit` with a
/// world `prepared-hooks` of the same package, which exports `init` too.
#[doc(hidden)]
#[macro_export]
macro_rules! export_hooks {
    ($hooks:ty, $init:path, $wit:tt) => {
        #[allow(warnings, clippy::pedantic, reason = "generated from the WIT")]
        mod __gw_bindings {
            $crate::wit_bindgen::generate!({
                inline: $wit,
                world: "prepared-hooks",
                runtime_path: "gw_sdk::wit_bindgen::rt",
            });
            pub(super) use export as export_hooks;
        }

        use __gw_bindings::gw::plugin::types as __gw_types;

        struct __GwComponent;

        __gw_bindings::export_hooks!(__GwComponent with_types_in __gw_bindings);

        impl __gw_bindings::Guest for __GwComponent {
            fn init() {
                $crate::serve::init($init);
            }

            fn pre(request: __gw_types::Request) -> Result<__gw_types::Outcome, String> {
                use $crate::Outcome;
                $crate::serve::initialise($init);
                let __gw_types::Request { method, path_with_query: path, headers, body } = request;
                let request = $crate::Request { method, path, headers, body };
                Ok(match $crate::serve::outcome::<$hooks>(request) {
                    Outcome::Respond(answer) => __gw_types::Outcome::Respond(answer.into()),
                    Outcome::Pass(changed) => __gw_types::Outcome::Pass(changed.map(Into::into)),
                    Outcome::Watch { request, state } => {
                        let state = $crate::serve::pack(&state)?;
                        let request = request.map(Into::into);
                        __gw_types::Outcome::Watch(__gw_types::Watch { request, state })
                    }
                    Outcome::Infer(inference) => {
                        let state = $crate::serve::pack(&inference.state)?;
                        let tensor = |(name, input): (String, $crate::nn::Input)| {
                            let (dimensions, ty, data) = $crate::serve::parts(&input);
                            __gw_types::Tensor { name, dimensions, ty: ty.into(), data }
                        };
                        let inputs = inference.inputs.into_iter().map(tensor).collect();
                        let model = inference.model;
                        __gw_types::Outcome::Infer(__gw_types::Inference { model, inputs, state })
                    }
                })
            }

            fn post(
                state: Vec<u8>,
                answer: __gw_types::Answer,
            ) -> Result<__gw_types::Response, String> {
                use $crate::Answer;
                $crate::serve::initialise($init);
                let answer = match answer {
                    __gw_types::Answer::Response(answer) => {
                        let __gw_types::Response { status, headers, body } = answer;
                        Answer::Response($crate::Response { status, headers, body })
                    }
                    __gw_types::Answer::Outputs(outputs) => {
                        let tensors = outputs.into_iter().map(|output| {
                            (output.name, (output.dimensions, output.ty.into(), output.data))
                        });
                        Answer::Outputs($crate::serve::outputs(tensors))
                    }
                };
                $crate::serve::answered::<$hooks>(&state, answer).map(Into::into)
            }
        }

        impl From<$crate::Request> for __gw_types::Request {
            fn from(request: $crate::Request) -> Self {
                let $crate::Request { method, path, headers, body } = request;
                Self { method, path_with_query: path, headers, body }
            }
        }

        impl From<$crate::Response> for __gw_types::Response {
            fn from(response: $crate::Response) -> Self {
                let $crate::Response { status, headers, body } = response;
                Self { status, headers, body }
            }
        }

        $crate::export_hooks!(@types Fp16 Fp32 Fp64 Bf16 U8 I32 I64);
    };
    (@types $($name:ident)*) => {
        impl From<$crate::nn::ElementType> for __gw_types::TensorType {
            fn from(ty: $crate::nn::ElementType) -> Self {
                match ty {
                    $($crate::nn::ElementType::$name => Self::$name,)*
                }
            }
        }

        impl From<__gw_types::TensorType> for $crate::nn::ElementType {
            fn from(ty: __gw_types::TensorType) -> Self {
                match ty {
                    $(__gw_types::TensorType::$name => Self::$name,)*
                }
            }
        }
    };
}
