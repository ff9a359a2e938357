//! The plugins of a route, in order, and one request on its way through them.
//!
//! Each plugin has its own instance with its own limits and grants. What a plugin does not answer
//! goes on to the next: hooks say so, and a handler sends a request to the authority `next`.

pub mod body;
pub mod question;
mod steps;
mod told;
mod trail;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use gw_artifact::manifest::Failure;
use gw_inference::{Caller, InferenceError};
use http::HeaderValue;
use http::header::HOST;

use self::question::Inferences;
use self::trail::Trail;
pub use self::trail::{Report, Skipped};
use crate::imports::next::{Kept, Next};
use crate::plugin::hooks::{Outcome, WitAnswer};
use crate::plugin::{Kind, Place, cgi, exchange};
use crate::{Body, BodyError, Call, GuestError, HostError, Plugin};

/// The plugins that answer one route.
#[derive(Clone)]
pub struct Chain(Arc<[Link]>);

/// One plugin of a chain.
#[derive(Clone)]
pub struct Link {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// What its failure means for the request.
    pub failure: Failure,
}

impl Chain {
    /// A chain of one plugin or more.
    ///
    /// # Errors
    /// [`HostError::ChainTooLong`] where a request would need more instances at once than there
    /// are.
    ///
    /// # Panics
    /// Without any plugin.
    pub fn new(links: Vec<Link>) -> Result<Self, HostError> {
        let first = &links.first().expect("a chain has a plugin").plugin;
        let (instances, chain) = (first.gate.instances, Self(links.into()));
        let needed = chain.depth(0);
        if needed as usize > instances {
            let plugins = chain.0.iter().map(|link| link.plugin.name.to_string()).collect();
            return Err(HostError::ChainTooLong { plugins, needed, instances });
        }
        Ok(chain)
    }

    /// A plugin by itself.
    pub fn of(plugin: Arc<Plugin>) -> Self {
        Self(Arc::new([Link { plugin, failure: Failure::Closed }]))
    }

    /// The plugins, in order.
    pub fn links(&self) -> &[Link] {
        &self.0
    }

    /// Whether any of them is hooks, so that inferences are what can be cached.
    pub fn has_hooks(&self) -> bool {
        self.0.iter().any(|link| matches!(link.plugin.kind, Kind::Hooks(_)))
    }

    /// Whether the first plugin needs a request whole: hooks and commands get it so, and what a
    /// failing plugin leaves to the next must not be half read.
    pub fn wants_whole(&self) -> bool {
        self.0.first().is_some_and(|link| !link.streams())
    }

    /// Why every model that the plugins are granted would refuse a request of `caller` now. Nothing
    /// where one of them would take it, where there is none, or where a plugin brings its own: then
    /// only running the plugins tells.
    pub fn refusal(&self, caller: &Caller, deadline: Instant) -> Option<InferenceError> {
        if self.0.iter().any(|link| link.plugin.grants.load.is_some()) {
            return None;
        }
        let mut reason = None;
        for model in self.0.iter().flat_map(|link| link.plugin.grants.models.values()) {
            reason = Some(model.refusal(caller, deadline)?);
        }
        reason
    }

    /// Answers one request. Dropping the future, or the body of the answer, ends all guests that
    /// work for it, and their inferences with them.
    ///
    /// `inferences` answers the questions of hooks; without it their models do.
    ///
    /// # Errors
    /// How a guest failed; nothing that it does reaches another request.
    ///
    /// # Panics
    /// Outside a tokio runtime with its timer enabled.
    pub async fn answer(
        &self,
        request: http::Request<Body>,
        call: Call,
        inferences: Option<Arc<dyn Inferences>>,
    ) -> Result<Answer, GuestError> {
        let authority = request.uri().authority().map(|name| HeaderValue::from_str(name.as_str()));
        let host = authority.and_then(Result::ok).or(request.headers().get(HOST).cloned());
        let trail = Trail::default();
        let (chain, reached) = (self.clone(), AtomicUsize::new(0));
        let broke_off = AtomicBool::default();
        let trip = Arc::new(Trip { chain, call, host, inferences, trail, reached, broke_off });
        let request = request.map(|body| trip.watched(body));
        let response = Arc::clone(&trip).go(0, request, None).await?;
        Ok(Answer { response, progress: Progress(trip) })
    }

    /// What may be told of a text that guests of this chain may have spelled: none of their
    /// secrets, and not too much.
    pub fn mask(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, link| link.plugin.mask(&text))
    }

    /// How many instances live at once for a request that is at the plugin `at`: a handler lives
    /// until what is behind it has answered, hooks and commands do not.
    fn depth(&self, at: usize) -> u32 {
        let Some(link) = self.0.get(at) else { return 0 };
        match link.plugin.kind {
            Kind::Handler(_) => 1 + self.depth(at + 1),
            Kind::Hooks(_) | Kind::Command(_) => self.depth(at + 1).max(1),
        }
    }
}

impl Link {
    /// Whether a request's body may be given to it as it comes.
    fn streams(&self) -> bool {
        matches!(self.plugin.kind, Kind::Handler(_)) && self.failure == Failure::Closed
    }

    /// Whether a request that this error ended goes on without the plugin.
    fn may_lack(&self, error: &GuestError) -> bool {
        self.failure == Failure::Open && error.is_the_plugins()
    }
}

/// An answer of a chain, as soon as its head is there.
#[derive(Debug)]
pub struct Answer {
    /// What was answered.
    pub response: http::Response<Body>,
    /// What the request meets, for as long as the body is on its way.
    pub progress: Progress,
}

/// A request that may still be on its way through a chain; cheap to clone.
#[derive(Clone)]
pub struct Progress(Arc<Trip>);

impl Progress {
    /// What the request has met until now.
    pub fn report(&self) -> Report {
        self.0.trail.report()
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.report().fmt(f)
    }
}

/// One request on its way through a chain; shared by all that works for it.
pub(crate) struct Trip {
    chain: Chain,
    pub(crate) call: Call,
    /// Whom the client asked.
    host: Option<HeaderValue>,
    inferences: Option<Arc<dyn Inferences>>,
    pub(crate) trail: Trail,
    /// The last plugin that was given the request.
    reached: AtomicUsize,
    /// Whether the body that the client sends broke off.
    broke_off: AtomicBool,
}

type Response = http::Response<Body>;

impl Trip {
    pub(crate) fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    /// Gives the request to the plugin `at`. `place` is where the instances may live, if whoever
    /// gives it has one.
    pub(crate) fn go(
        self: Arc<Self>,
        at: usize,
        request: http::Request<Body>,
        place: Option<Place>,
    ) -> BoxFuture<'static, Result<Response, GuestError>> {
        Box::pin(async move {
            let link = self.chain.0[at].clone();
            self.reached.fetch_max(at, Ordering::Relaxed);
            let (head, body) = request.into_parts();
            let limit = link.plugin.config.request_bytes_max;
            let too_large = |given| {
                let plugin = link.plugin.name.clone();
                GuestError::RequestTooLarge { plugin, given, limit }
            };
            if let Some(whole) = body.as_whole().filter(|whole| whole.len() > limit) {
                let error = too_large(whole.len());
                link.plugin.ended(Some(&error));
                return Err(error);
            }
            if link.streams() {
                let request = http::Request::from_parts(head, body);
                return self.handler(at, &link.plugin, request, place, None).await;
            }
            let body = body.collect(limit).await.map_err(|error| match error {
                BodyError::Guest(error) => *error,
                BodyError::TooLarge { .. } => too_large(limit + 1),
                BodyError::Broken(source) => {
                    GuestError::RequestBroken { plugin: link.plugin.name.clone(), source }
                }
            })?;
            let request = http::Request::from_parts(head, body);
            match &link.plugin.kind {
                Kind::Hooks(_) => self.hooks(at, &link, request, place).await,
                Kind::Command(command) => self.command(at, &link, command, request, place).await,
                Kind::Handler(_) => {
                    let spare = request.clone();
                    let plugin = &link.plugin;
                    let whole = request.map(Body::whole);
                    let kept = Kept::default();
                    let (this, keeps) = (Arc::clone(&self), Some(Arc::clone(&kept)));
                    match this.handler(at, plugin, whole, place.clone(), keeps).await {
                        Err(error) => match kept.get() {
                            // What is behind it has answered, and runs once.
                            Some(answer) if link.may_lack(&error) => {
                                self.skipped(plugin, error);
                                Ok(answer.clone().map(Body::whole))
                            }
                            _ => self.without(at, &link, error, spare, place).await,
                        },
                        answered => answered,
                    }
                }
            }
        })
    }

    async fn handler(
        self: Arc<Self>,
        at: usize,
        plugin: &Arc<Plugin>,
        request: http::Request<Body>,
        place: Option<Place>,
        kept: Option<Kept>,
    ) -> Result<Response, GuestError> {
        let Kind::Handler(handler) = &plugin.kind else {
            unreachable!("the caller has looked at its kind")
        };
        let place = self.place(plugin, self.chain.depth(at), place).await?;
        let next = (at + 1 < self.chain.0.len()).then(|| Next {
            trip: Arc::clone(&self),
            at: at + 1,
            place: place.clone(),
            kept,
        });
        Box::pin(exchange::run(&self, plugin, handler, request, place, next)).await
    }

    /// Starts a command, which answers.
    async fn command(
        self: Arc<Self>,
        at: usize,
        link: &Link,
        command: &cgi::Command,
        request: http::Request<Bytes>,
        place: Option<Place>,
    ) -> Result<Response, GuestError> {
        let plugin = &link.plugin;
        let given = self.place(plugin, 1, place.clone()).await?;
        let result = cgi::run(plugin, command, &request, self.host(), &self.call, given).await;
        plugin.ended(result.as_ref().err());
        match result {
            Ok((response, left)) => {
                self.trail.passed(&left);
                Ok(response.map(Body::whole))
            }
            Err(error) => self.without(at, link, error, request, place).await,
        }
    }

    async fn hooks(
        self: Arc<Self>,
        at: usize,
        link: &Link,
        request: http::Request<Bytes>,
        place: Option<Place>,
    ) -> Result<Response, GuestError> {
        let plugin = &link.plugin;
        let behind = at + 1 < self.chain.0.len();
        let before = self.pre(plugin, &request, behind, place.clone()).await;
        let outcome = match before {
            Ok(outcome) => outcome,
            Err(error) => return self.without(at, link, error, request, place).await,
        };
        let (changed, watched) = match outcome {
            Outcome::Respond(response) => return Ok(response.map(Body::whole)),
            Outcome::Infer { question, state } => {
                let outputs = match self.infer(plugin, question).await {
                    Ok(outputs) => WitAnswer::Outputs(outputs),
                    Err(error) => return self.without(at, link, error, request, place).await,
                };
                return match self.post(plugin, state, outputs, place.clone()).await {
                    Ok(response) => Ok(response.map(Body::whole)),
                    Err(error) => self.without(at, link, error, request, place).await,
                };
            }
            Outcome::Pass(_) | Outcome::Watch { .. } if !behind => {
                let reason = "it passed the request on, and no plugin comes after it".to_owned();
                let error = plugin.bad_response(reason);
                plugin.ended(Some(&error));
                return Err(error);
            }
            Outcome::Pass(changed) => (changed, None),
            Outcome::Watch { request, state } => (request, Some(state)),
        };
        let request = changed.unwrap_or(request).map(Body::whole);
        let answered = Arc::clone(&self).go(at + 1, request, place.clone()).await;
        let Some(state) = watched else { return answered };
        // What is behind it failed, and not the plugin.
        let answered = answered.inspect_err(|_| plugin.ended(None))?;
        let limit = plugin.config.response_bytes_max;
        let (head, body) = answered.into_parts();
        let body = body.collect(limit).await.map_err(|error| match error {
            BodyError::Guest(error) => *error,
            other => plugin.bad_response(format!("of what it watches {other}")),
        })?;
        let answer = http::Response::from_parts(head, body);
        match self.post(plugin, state, WitAnswer::response(&answer), place).await {
            Ok(response) => Ok(response.map(Body::whole)),
            Err(error) if link.may_lack(&error) => {
                self.skipped(plugin, error);
                Ok(answer.map(Body::whole))
            }
            Err(error) => Err(error),
        }
    }

    /// Goes on without a plugin that failed, where its policy and the place in the chain allow.
    async fn without(
        self: Arc<Self>,
        at: usize,
        link: &Link,
        error: GuestError,
        request: http::Request<Bytes>,
        place: Option<Place>,
    ) -> Result<Response, GuestError> {
        let went_on = self.reached.load(Ordering::Relaxed) > at;
        if !link.may_lack(&error) || at + 1 == self.chain.0.len() || went_on {
            return Err(error);
        }
        self.skipped(&link.plugin, error);
        self.go(at + 1, request.map(Body::whole), place).await
    }
}
