//! What can go wrong with a plugin, and whose fault it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gw_artifact::ByteSize;
use gw_inference::{Fault, InferenceError};

use crate::chain::question::Refusal;

/// Why the host could not be set up, or why a plugin could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The Wasm engine does not start with this configuration.
    #[error("the wasm engine does not start: {reason}")]
    Engine {
        /// What the engine reported.
        reason: String,
    },
    /// The directory for compiled code cannot be used.
    #[error("compiled code cannot be kept in {path}: {reason}")]
    Cache {
        /// The directory.
        path: String,
        /// What the system reported.
        reason: String,
    },
    /// The bytes are not a component or core module that this node can compile.
    #[error("plugin {plugin} is not usable WebAssembly: {reason}")]
    Compile {
        /// The plugin.
        plugin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The plugin imports what this host does not offer.
    #[error(
        "plugin {plugin} imports {}, which this host does not offer; it offers {offered}",
        imports.join(", ")
    )]
    MissingImport {
        /// The plugin.
        plugin: String,
        /// The imports that nobody fills, as the component names them.
        imports: Vec<String>,
        /// What a plugin may import.
        offered: String,
    },
    /// An import has the right name and another type.
    #[error("plugin {plugin} does not link: {reason}")]
    Link {
        /// The plugin.
        plugin: String,
        /// Which import, and how it differs.
        reason: String,
    },
    /// The component exports neither a request handler nor hooks.
    #[error(
        "plugin {plugin} exports neither wasi:http/incoming-handler, which a Rust plugin gets from \
         `#[gw_sdk::handler]`, nor the hooks `pre` and `post` of gw:plugin@0.1.0: {reason}"
    )]
    NotAPlugin {
        /// The plugin.
        plugin: String,
        /// What its hooks lack.
        reason: String,
    },
    /// The component exports both, so it is not said which of them answers.
    #[error(
        "plugin {plugin} exports wasi:http/incoming-handler and the hooks `pre` and `post`; \
         make two plugins of it"
    )]
    TwoKinds {
        /// The plugin.
        plugin: String,
    },
    /// It cannot be started as a program, or answer requests as one.
    #[error("{plugin} cannot be started: {reason}")]
    NotACommand {
        /// The plugin or program.
        plugin: String,
        /// What it is instead, and what to do with it.
        reason: String,
    },
    /// A request to a chain needs more instances at once than the node has.
    #[error(
        "the plugins {} need {needed} instances at once; `instances_max` is {instances}",
        plugins.join(", ")
    )]
    ChainTooLong {
        /// The plugins of the chain, in order.
        plugins: Vec<String>,
        /// Instances that live at once for one request.
        needed: u32,
        /// The instances of this node.
        instances: usize,
    },
    /// The plugin asks for more than the node allows.
    #[error(
        "plugin {plugin}: its limit `{key}` is {asked}, and this node allows {allowed}; lower it, \
         or raise `{node_key}` in the node's [plugins]"
    )]
    OverLimit {
        /// The plugin.
        plugin: String,
        /// The key in the manifest's `limits`.
        key: &'static str,
        /// What it asks for, with its unit.
        asked: String,
        /// What it may have.
        allowed: String,
        /// The key in the node's configuration.
        node_key: &'static str,
    },
    /// The plugin starts larger than its own limit.
    #[error(
        "plugin {plugin} starts with {needed} bytes of memory, and its limit `memory` is {limit}"
    )]
    InitialMemory {
        /// The plugin.
        plugin: String,
        /// Bytes of its memories before it runs.
        needed: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// The node does not have a secret that the plugin is granted.
    #[error("plugin {plugin} needs the secret {secret}: {reason}")]
    Secret {
        /// The plugin.
        plugin: String,
        /// The secret's name.
        secret: String,
        /// Why there is no value, which is never quoted.
        reason: String,
    },
    /// The key-value store of this node cannot be opened.
    #[error("the key-value store cannot be opened: {reason}")]
    Keyvalue {
        /// What is in the way.
        reason: String,
    },
    /// The settings for requests that plugins send cannot be used.
    #[error("plugins cannot send requests: {reason}")]
    Outbound {
        /// What is in the way.
        reason: String,
    },
    /// The directory of the plugin's assets is not there.
    #[error("the assets of plugin {plugin} are not a directory: {path}")]
    Assets {
        /// The plugin.
        plugin: String,
        /// The directory.
        path: String,
    },
}

/// How one request failed inside a plugin. It costs that request and nothing else.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GuestError {
    /// The guest trapped: a panic, a stack overflow, an exhausted table, an exit.
    #[error("plugin {plugin} trapped: {message}")]
    Trap {
        /// The plugin.
        plugin: Arc<str>,
        /// The trap.
        message: String,
        /// The guest's stack, innermost frame first; empty where there is none.
        backtrace: String,
        /// What the request took until then.
        timings: Timings,
    },
    /// A hook returned an error.
    #[error("plugin {plugin} failed: {reason}")]
    Failed {
        /// The plugin.
        plugin: Arc<str>,
        /// The guest's words.
        reason: String,
        /// What the request took until then.
        timings: Timings,
    },
    /// The guest ran for longer than it may; what it waited for is not counted.
    #[error("plugin {plugin} ran for more than its {limit:?}")]
    Timeout {
        /// The plugin.
        plugin: Arc<str>,
        /// The time that it had.
        limit: Duration,
        /// What the request took until then.
        timings: Timings,
    },
    /// The request's time was over before the guest had answered.
    #[error("plugin {plugin} had not answered at the deadline, after {after:.1?}: {timings}")]
    DeadlinePassed {
        /// The plugin.
        plugin: Arc<str>,
        /// How long the request was with the guest.
        after: Duration,
        /// What the request took until then.
        timings: Timings,
    },
    /// The guest trapped after it was refused more memory.
    #[error(
        "plugin {plugin} ran out of its {} of memory; raise `memory` in its `limits` in gw.toml",
        ByteSize(*.limit)
    )]
    OutOfMemory {
        /// The plugin.
        plugin: Arc<str>,
        /// Its memory limit, in bytes.
        limit: u64,
        /// What the request took until then.
        timings: Timings,
    },
    /// The guest returned without a response.
    #[error("plugin {plugin} returned without a response")]
    NoResponse {
        /// The plugin.
        plugin: Arc<str>,
        /// What the request took.
        timings: Timings,
    },
    /// The guest's response cannot be passed on.
    #[error("the response of plugin {plugin} is unusable: {reason}")]
    BadResponse {
        /// The plugin.
        plugin: Arc<str>,
        /// What is wrong with it.
        reason: String,
        /// What the request took.
        timings: Timings,
    },
    /// There is no answer to what hooks asked of a model, or the device lost one before the guest
    /// read it.
    #[error("plugin {plugin} has no answer from its model")]
    Inference {
        /// The plugin.
        plugin: Arc<str>,
        /// The model's reason, or that of whoever stands before it.
        source: Refusal,
        /// What the request took until then.
        timings: Timings,
    },
    /// The request's body broke off before a plugin that needs it whole had it.
    #[error("the request for plugin {plugin} broke off")]
    RequestBroken {
        /// The plugin.
        plugin: Arc<str>,
        /// What became of it.
        source: Refusal,
    },
    /// The request's body is larger than the host passes to a guest.
    #[error("the request for plugin {plugin} has {given} bytes; {limit} are allowed")]
    RequestTooLarge {
        /// The plugin.
        plugin: Arc<str>,
        /// Bytes in the body.
        given: usize,
        /// Bytes allowed, `request_bytes_max`.
        limit: usize,
    },
    /// All instances are busy and as many requests wait as the configuration allows, or none
    /// became free before the deadline.
    #[error("plugin {plugin}: all {instances} instances are busy")]
    Saturated {
        /// The plugin.
        plugin: Arc<str>,
        /// The instances that it may have: `instances_per_plugin_max`, or all of the node.
        instances: usize,
    },
}

impl GuestError {
    /// The plugin that failed.
    pub fn plugin(&self) -> &str {
        match self {
            Self::Trap { plugin, .. }
            | Self::Failed { plugin, .. }
            | Self::Inference { plugin, .. }
            | Self::RequestBroken { plugin, .. }
            | Self::Timeout { plugin, .. }
            | Self::DeadlinePassed { plugin, .. }
            | Self::OutOfMemory { plugin, .. }
            | Self::NoResponse { plugin, .. }
            | Self::BadResponse { plugin, .. }
            | Self::RequestTooLarge { plugin, .. }
            | Self::Saturated { plugin, .. } => plugin,
        }
    }

    /// What the request took until it failed; zero where the guest never started.
    pub fn timings(&self) -> Timings {
        match self {
            Self::Trap { timings, .. }
            | Self::Failed { timings, .. }
            | Self::Inference { timings, .. }
            | Self::Timeout { timings, .. }
            | Self::DeadlinePassed { timings, .. }
            | Self::OutOfMemory { timings, .. }
            | Self::NoResponse { timings, .. }
            | Self::BadResponse { timings, .. } => timings.clone(),
            Self::RequestTooLarge { .. } | Self::RequestBroken { .. } | Self::Saturated { .. } => {
                Timings::default()
            }
        }
    }

    /// Whether the plugin itself failed, so that a chain may go on without it; the node, a model
    /// or the request did otherwise.
    pub fn is_the_plugins(&self) -> bool {
        match self {
            Self::Trap { .. }
            | Self::Failed { .. }
            | Self::Timeout { .. }
            | Self::OutOfMemory { .. }
            | Self::NoResponse { .. }
            | Self::BadResponse { .. } => true,
            Self::Inference { source, .. } => asks_wrongly(&**source),
            // The time of the whole request is over.
            Self::DeadlinePassed { .. }
            | Self::RequestTooLarge { .. }
            | Self::RequestBroken { .. }
            | Self::Saturated { .. } => false,
        }
    }

    /// The error of a hook, with as many of its words as a log takes.
    pub(crate) fn failed(plugin: Arc<str>, mut reason: String, timings: Timings) -> Self {
        const REASON_BYTES_MAX: usize = 1024;
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self::Failed { plugin, reason, timings }
    }
}

/// Whether a model refused what it was asked, whoever stands before it.
fn asks_wrongly(refusal: &(dyn std::error::Error + 'static)) -> bool {
    let reasons = std::iter::successors(Some(refusal), |error| error.source());
    let mut models = reasons.filter_map(|error| {
        let boxed = || error.downcast_ref::<Box<InferenceError>>().map(|error| &**error);
        error.downcast_ref::<InferenceError>().or_else(boxed)
    });
    models.any(|error| error.fault() == Fault::Caller)
}

/// Where the time of one request went.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// Making the instance.
    pub instantiate: Duration,
    /// Time on a thread for this request: the guest and its host calls, the instantiation
    /// included. Waiting (for a device, for a neighbour's turn) is not in it.
    pub plugin: Duration,
    /// Waiting for the device, summed over all `compute` calls.
    pub queue: Duration,
    /// The runs of this request, summed over all `compute` calls.
    pub infer: Duration,
    /// The device of the last run.
    pub device: Option<Arc<str>>,
    /// The model whose answer the guest still waited for when its time was over.
    pub awaited: Option<Arc<str>>,
}

/// Where the time went, for people.
impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1?} in the plugin", self.plugin)?;
        let model = match &self.awaited {
            Some(model) => format!("the model {model}"),
            None if self.queue + self.infer > Duration::ZERO => "its models".to_owned(),
            None => return Ok(()),
        };
        write!(f, ", {:.1?} in the queue of {model}, {:.1?} in runs", self.queue, self.infer)
    }
}

/// An answer of a plugin.
#[derive(Clone, Debug)]
pub struct Handled {
    /// What the guest answered.
    pub response: http::Response<bytes::Bytes>,
    /// What it took.
    pub timings: Timings,
    /// The last error that a `compute` gave the guest, which may have hidden it from the client.
    pub inference_error: Option<InferenceError>,
}
