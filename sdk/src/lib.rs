//! What a plugin author writes against: a request in, a response out, models by name.
//!
//! It runs in the guest and knows nothing of the host but the interfaces in `sdk/wit`. A plugin's
//! tests run natively: [`testing`] is a host for them.
//!
//! - [`macro@handler`]: a function that answers requests. What it takes is [`FromRequest`], what it
//!   gives [`IntoResponse`]; [`Error`] is a JSON error answer.
//! - [`macro@hooks`]: what happens before and after a model, or the rest of a chain; see [`Hooks`].
//! - [`nn`]: models and tensors.
//! - [`assets`], [`config`], [`keyvalue`], [`outbound`]: what `gw.toml` grants: files, values and
//!   secrets, buckets, requests to other hosts.
//! - [`logging`]: messages with a level, in the node's log.
//! - `image`, `audio`, `tokenizer`, each behind the feature of its name: from files and texts to
//!   what models take.
//!
//! ```
//! use gw_sdk::nn::{Graph, Tensor};
//! use gw_sdk::{Error, Json, handler};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Input {
//!     numbers: Vec<f32>,
//! }
//!
//! #[derive(Serialize)]
//! struct Answer {
//!     doubled: Vec<f32>,
//! }
//!
//! #[handler]
//! fn answer(Json(input): Json<Input>) -> Result<Json<Answer>, Error> {
//!     let x = Tensor::new([1, input.numbers.len()], input.numbers)?;
//!     let outputs = Graph::load("double")?.compute([("x", x.into())])?;
//!     Ok(Json(Answer { doubled: outputs.read("y")?.into_vec() }))
//! }
//!
//! # use gw_sdk::testing::Host;
//! # use gw_sdk::Request;
//! let host = Host::new().model("double", |inputs| {
//!     let x = inputs.read::<f32>("x")?;
//!     let y: Vec<f32> = x.as_slice().iter().map(|x| x * 2.0).collect();
//!     Ok(vec![("y", Tensor::new(x.dims(), y)?.into())])
//! });
//! let response = host.call(answer, Request::new("POST", "/").with_body(r#"{"numbers": [3]}"#));
//! assert_eq!(response.body, br#"{"doubled":[6.0]}"#);
//! ```
#![forbid(unsafe_code)]

// The generated bindings and the macros name this crate from wherever they are expanded.
extern crate self as gw_sdk;

mod grants;
mod hooks;
mod host;
mod http;
pub mod nn;
#[doc(hidden)]
pub mod serve;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[cfg(feature = "audio")]
pub mod audio;
#[cfg(feature = "image")]
pub mod image;
#[cfg(feature = "tokenizer")]
pub mod tokenizer;

/// Makes a plugin of a function that answers requests.
///
/// Each argument is [`FromRequest`]: [`Json`], [`Query`], [`Body`], [`Request`] or one of your own.
/// They are read in their order; the first that cannot be read is the answer. The last one may take
/// the body without a copy. The result is [`IntoResponse`]. The function stays as it is, so tests
/// call it, or let [`testing::Host::call`] send it requests.
///
/// `#[handler(init = prepare)]` names a function that runs once, when the plugin is built. What it
/// leaves in statics is there in every instance at no cost, so it is the place to parse tables; see
/// [`assets`]. Models are not there yet, and neither files nor random numbers may be kept: every
/// instance would share them. It gives nothing or a `Result`; where it fails or panics, the build
/// does.
///
/// A crate has one handler, or hooks.
///
/// ```
/// use gw_sdk::{Error, Json, Query, handler};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// struct Options {
///     #[serde(default)]
///     loud: bool,
/// }
///
/// #[derive(Serialize)]
/// struct Greeting {
///     text: String,
/// }
///
/// #[handler]
/// fn greet(
///     Query(options): Query<Options>,
///     Json(name): Json<String>,
/// ) -> Result<Json<Greeting>, Error> {
///     if name.is_empty() {
///         return Err(Error::new(422, "empty_name", "say whom to greet").field("body"));
///     }
///     let text = format!("hello, {name}");
///     Ok(Json(Greeting { text: if options.loud { text.to_uppercase() } else { text } }))
/// }
///
/// # let request = gw_sdk::Request::new("POST", "/?loud=true").with_body("\"Ada\"");
/// let response = gw_sdk::testing::Host::new().call(greet, request);
/// assert_eq!(response.body, br#"{"text":"HELLO, ADA"}"#);
/// ```
///
/// What cannot be read from a request is a compile error that says what can:
///
/// ```compile_fail,E0277
/// #[gw_sdk::handler]
/// fn greet(name: Option<String>) -> String {
///     format!("hello, {name:?}")
/// }
/// ```
pub use gw_sdk_macros::handler;
/// Makes a plugin of an `impl` of [`Hooks`](trait@Hooks), which says how.
/// `#[hooks(init = prepare)]` names a function that runs once, when the plugin is built, as that of
/// [`macro@handler`].
///
/// ```
/// use gw_sdk::{Error, Hooks, Outcome, Request, hooks};
///
/// /// Lets no one in who does not say who it is.
/// struct Named;
///
/// #[hooks]
/// impl Hooks for Named {
///     fn pre(request: Request) -> Result<Outcome<()>, Error> {
///         match request.header("x-name") {
///             Some(_) => Ok(Outcome::Pass(None)),
///             None => Err(Error::new(400, "nameless", "say who you are in `x-name`")),
///         }
///     }
/// }
/// ```
pub use gw_sdk_macros::hooks;

pub use crate::grants::{assets, config, keyvalue, logging};
pub use crate::hooks::{Answer, Hooks, Outcome};
pub use crate::http::error::Error;
pub use crate::http::extract::{Body, FromRequest, Handler, IntoResponse, Json, Query};
pub use crate::http::outbound;
pub use crate::http::within::within;
pub use crate::http::{Request, Response};

#[doc(hidden)]
#[allow(
    missing_docs,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes_without_reason,
    clippy::str_to_string,
    unreachable_pub,
    reason = "generated from the WIT, which has the documentation"
)]
pub mod bindings;

#[doc(hidden)]
pub use wit_bindgen;
