//! What can go wrong with a plugin, and whose fault it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gw_inference::InferenceError;

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
    /// The bytes are not a component that this node can compile.
    #[error("plugin {plugin} is not a usable component: {reason}")]
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
    /// The component exports no request handler.
    #[error(
        "plugin {plugin} exports no wasi:http/incoming-handler; a Rust plugin gets one from \
         `gw_sdk::export!`"
    )]
    NotAHandler {
        /// The plugin.
        plugin: String,
    },
    /// The plugin asks for more than the node allows, or starts larger than its own limit.
    #[error("plugin {plugin} needs {needed} bytes of {what}; the limit is {limit}")]
    OverLimit {
        /// The plugin.
        plugin: String,
        /// What is limited.
        what: &'static str,
        /// What the plugin needs or asks for.
        needed: u64,
        /// What it may have.
        limit: u64,
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
    #[error("plugin {plugin} ran out of its {limit} bytes of memory")]
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
        /// The instances of this node, `instances_max`.
        instances: usize,
    },
}

impl GuestError {
    /// The plugin that failed.
    pub fn plugin(&self) -> &str {
        match self {
            Self::Trap { plugin, .. }
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
            | Self::Timeout { timings, .. }
            | Self::DeadlinePassed { timings, .. }
            | Self::OutOfMemory { timings, .. }
            | Self::NoResponse { timings, .. }
            | Self::BadResponse { timings, .. } => timings.clone(),
            Self::RequestTooLarge { .. } | Self::Saturated { .. } => Timings::default(),
        }
    }
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
