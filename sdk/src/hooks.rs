//! Hooks: what happens before and after a model, or the rest of a chain.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::nn::{Input, Outputs};
use crate::{Error, Request, Response};

/// A plugin that is called before and after a model, or the rest of its chain. Each call has an
/// instance of its own, and there is none in between: none waits for the model.
///
/// ```
/// use gw_sdk::nn::Tensor;
/// use gw_sdk::{Answer, Error, Hooks, Outcome, Request, Response, hooks};
///
/// struct Doubled;
///
/// #[hooks]
/// impl Hooks for Doubled {
///     type State = String;
///
///     fn pre(request: Request) -> Result<Outcome<String>, Error> {
///         let numbers: Vec<f32> = request.json()?;
///         let x = Tensor::new([1, numbers.len()], numbers)?;
///         Ok(Outcome::infer("double", [("x", x.into())], request.path))
///     }
///
///     fn post(path: String, answer: Answer) -> Result<Response, Error> {
///         let y = answer.outputs()?.read::<f32>("y")?;
///         Response::json(&(path, y.as_slice()))
///     }
/// }
///
/// # use gw_sdk::testing::Host;
/// let host = Host::new().model("double", |inputs| {
///     let x = inputs.read::<f32>("x")?;
///     let y: Vec<f32> = x.as_slice().iter().map(|x| x * 2.0).collect();
///     Ok(vec![("y", Tensor::new(x.dims(), y)?.into())])
/// });
/// let request = Request::new("POST", "/a").with_body("[1, 2]");
/// let response = host.call_hooks::<Doubled>(request, |_| unreachable!("nothing is passed on"));
/// assert_eq!(response.unwrap().body, br#"["/a",[2.0,4.0]]"#);
/// ```
pub trait Hooks {
    /// What [`Hooks::post`] needs to know of the request: it runs in an instance of its own, so the
    /// state goes there as JSON. With `#[hooks]` it is `()` where it is not given.
    type State: Serialize + DeserializeOwned;

    /// Says what becomes of a request.
    ///
    /// # Errors
    /// An [`Error`], which is answered; nothing after this plugin sees the request.
    fn pre(request: Request) -> Result<Outcome<Self::State>, Error>;

    /// Makes the response. It is called after [`Outcome::Infer`] and [`Outcome::Watch`], so hooks
    /// that give neither have none.
    ///
    /// # Errors
    /// An [`Error`], which is answered.
    fn post(state: Self::State, answer: Answer) -> Result<Response, Error> {
        let _ = (state, answer);
        let message = "these hooks have no `post`, and their `pre` asks for it";
        Err(Error::new(500, "no_post_hook", message))
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Outcome<State> {
    /// The model runs, and `post` makes a response of its outputs; see [`Outcome::infer`].
    Infer(Inference<State>),
    /// The request is answered; no later plugin of the chain sees it.
    Respond(Response),
    /// The next plugin of the chain takes over, with the request as it is, or as given here.
    /// `post` is not called.
    Pass(Option<Request>),
    /// The same, and `post` is given what the rest of the chain answered.
    Watch {
        /// The request, where it is changed.
        request: Option<Request>,
        /// What `post` needs to know.
        state: State,
    },
}

impl<State> Outcome<State> {
    /// The model of this name runs. Every input has the name that the model file gives it.
    pub fn infer<'a>(
        model: &str,
        inputs: impl IntoIterator<Item = (&'a str, Input)>,
        state: State,
    ) -> Self {
        let inputs = inputs.into_iter().map(|(name, input)| (name.to_owned(), input)).collect();
        Self::Infer(Inference { model: model.to_owned(), inputs, state })
    }
}

/// One run of a model.
#[derive(Debug)]
pub struct Inference<State> {
    /// A model that the plugin is granted.
    pub model: String,
    /// The inputs, each with the name that the model file gives it.
    pub inputs: Vec<(String, Input)>,
    /// What `post` needs to know.
    pub state: State,
}

/// What `post` makes a response of.
#[derive(Debug)]
pub enum Answer {
    /// After [`Outcome::Infer`]: what the model answered.
    Outputs(Outputs),
    /// After [`Outcome::Watch`]: what the rest of the chain answered.
    Response(Response),
}

impl Answer {
    /// What the model answered.
    ///
    /// # Errors
    /// 500 `unexpected_answer` where no model was asked.
    pub fn outputs(self) -> Result<Outputs, Error> {
        match self {
            Self::Outputs(outputs) => Ok(outputs),
            Self::Response(_) => Err(unexpected("a response, and `post` wants a model's outputs")),
        }
    }

    /// What the rest of the chain answered.
    ///
    /// # Errors
    /// 500 `unexpected_answer` where a model was asked.
    pub fn response(self) -> Result<Response, Error> {
        match self {
            Self::Response(response) => Ok(response),
            Self::Outputs(_) => Err(unexpected("a model's outputs, and `post` wants a response")),
        }
    }
}

fn unexpected(what: &str) -> Error {
    Error::new(500, "unexpected_answer", format!("the answer is {what}"))
}
