//! A host for native tests: `cargo test` in a plugin's folder needs no node, no model and no Wasm.
//!
//! ```
//! use gw_sdk::nn::{Graph, Tensor};
//! use gw_sdk::testing::Host;
//! use gw_sdk::{Error, Request, config, handler};
//!
//! #[handler]
//! fn answer(request: Request) -> Result<String, Error> {
//!     let x = Tensor::new([1, request.body.len()], request.body)?;
//!     let sum = Graph::load("sum")?.compute([("x", x.into())])?.read::<i64>("y")?;
//!     let unit = config::get("unit")?.unwrap_or_default();
//!     Ok(format!("{}{unit}", sum.as_slice()[0]))
//! }
//!
//! let host = Host::new().config("unit", " points").model("sum", |inputs| {
//!     let sum: i64 = inputs.read::<u8>("x")?.as_slice().iter().map(|&x| i64::from(x)).sum();
//!     Ok(vec![("y", Tensor::new([1], [sum])?.into())])
//! });
//! let response = host.call(answer, Request::new("POST", "/").with_body([1, 2, 3]));
//! assert_eq!(response.body, b"6 points");
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use crate::hooks::Inference;
use crate::logging::Message;
use crate::nn::{Error, Input, Outputs};
use crate::outbound::{ErrorCode, Outgoing};
use crate::{Answer, Handler, Hooks, Outcome, Request, Response, host, serve};

/// A model of a test: from its inputs to its outputs.
pub(crate) type Model = Rc<RefCell<dyn FnMut(&Outputs) -> Result<Vec<(String, Input)>, Error>>>;
/// Other hosts, as a test has them.
pub(crate) type Outbound = Rc<RefCell<dyn FnMut(Outgoing) -> Result<Response, ErrorCode>>>;

/// What a test grants, and what was left in it.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) models: BTreeMap<String, Model>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) buckets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub(crate) assets: Option<PathBuf>,
    pub(crate) outbound: Option<Outbound>,
    pub(crate) logs: Vec<Message>,
}

thread_local! {
    static RUNNING: RefCell<Vec<Rc<RefCell<World>>>> = const { RefCell::new(Vec::new()) };
}

/// Looks into the host that runs on this thread; `None` where there is none.
pub(crate) fn with<R>(look: impl FnOnce(&mut World) -> R) -> Option<R> {
    let world = RUNNING.with_borrow(|running| running.last().cloned())?;
    let result = look(&mut world.borrow_mut());
    Some(result)
}

/// A host with what a test gives it. Nothing is granted that was not given: as on a node, a model
/// or a bucket that `gw.toml` would not grant is an error.
#[derive(Default)]
pub struct Host(Rc<RefCell<World>>);

impl Host {
    /// A host that grants nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A model: a function from its inputs to its outputs, by their names. It may keep a state
    /// between its runs, and it may fail.
    #[must_use]
    pub fn model(
        self,
        name: &str,
        mut run: impl FnMut(&Outputs) -> Result<Vec<(&'static str, Input)>, Error> + 'static,
    ) -> Self {
        let run = move |inputs: &Outputs| {
            let outputs = run(inputs)?;
            Ok(outputs.into_iter().map(|(name, output)| (name.to_owned(), output)).collect())
        };
        self.0.borrow_mut().models.insert(name.to_owned(), Rc::new(RefCell::new(run)));
        self
    }

    /// A value of `config`.
    #[must_use]
    pub fn config(self, key: &str, value: &str) -> Self {
        self.0.borrow_mut().config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A secret: `config::get` gives it, `config::get_all` does not.
    #[must_use]
    pub fn secret(self, key: &str, value: &str) -> Self {
        self.0.borrow_mut().secrets.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A bucket of `keyvalue`, with these pairs in it.
    #[must_use]
    pub fn bucket<'a>(
        self,
        name: &str,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let pairs = pairs.into_iter();
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        self.0.borrow_mut().buckets.insert(name.to_owned(), pairs.collect());
        self
    }

    /// The folder whose files are the assets.
    #[must_use]
    pub fn assets(self, folder: impl Into<PathBuf>) -> Self {
        self.0.borrow_mut().assets = Some(folder.into());
        self
    }

    /// What answers the requests that the plugin sends.
    #[must_use]
    pub fn outbound(
        self,
        answer: impl FnMut(Outgoing) -> Result<Response, ErrorCode> + 'static,
    ) -> Self {
        self.0.borrow_mut().outbound = Some(Rc::new(RefCell::new(answer)));
        self
    }

    /// Runs a function with this host behind the SDK.
    pub fn run<R>(&self, function: impl FnOnce() -> R) -> R {
        /// Also where the function panics.
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                RUNNING.with_borrow_mut(|running| _ = running.pop());
            }
        }
        RUNNING.with_borrow_mut(|running| running.push(Rc::clone(&self.0)));
        let _leave = Leave;
        function()
    }

    /// Lets a handler answer a request, as a node would.
    #[allow(clippy::needless_pass_by_value, reason = "functions are copied, and `&` is no help")]
    pub fn call<Arguments>(&self, handler: impl Handler<Arguments>, request: Request) -> Response {
        self.run(|| handler.respond(request))
    }

    /// Lets hooks handle a request, as a node would: a model runs between them, and `next` answers
    /// what they pass on.
    ///
    /// # Errors
    /// What a node would log: a model that does not run, a state that does not survive the way
    /// between the hooks.
    pub fn call_hooks<H: Hooks>(
        &self,
        request: Request,
        next: impl FnOnce(Request) -> Response,
    ) -> Result<Response, String> {
        self.run(|| match serve::outcome::<H>(request.clone()) {
            Outcome::Respond(response) => Ok(response),
            Outcome::Pass(changed) => Ok(next(changed.unwrap_or(request))),
            Outcome::Infer(Inference { model, inputs, state }) => {
                let state = serve::pack(&state)?;
                let outputs = host::Graph::load(&model)
                    .and_then(|graph| graph.context()?.compute(inputs))
                    .map_err(|error| error.to_string())?;
                serve::answered::<H>(&state, Answer::Outputs(Outputs(outputs)))
            }
            Outcome::Watch { request: changed, state } => {
                let response = next(changed.unwrap_or(request));
                serve::answered::<H>(&serve::pack(&state)?, Answer::Response(response))
            }
        })
    }

    /// What was logged so far.
    pub fn logs(&self) -> Vec<Message> {
        self.0.borrow().logs.clone()
    }

    /// The value of a key in a bucket.
    pub fn value(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.0.borrow().buckets.get(bucket)?.get(key).cloned()
    }
}

#[cfg(test)]
mod tests;
