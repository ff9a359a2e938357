//! Why a deployment was refused, and whose fault that is.

use std::io;
use std::path::{Path, PathBuf};

use gw_artifact::Digest;
use gw_artifact::bundle::BundleError;
use gw_artifact::source::FetchError;
use gw_host::HostError;
use gw_inference::{InferenceError, PolicyProblem};

/// A push, a rollback or a start that did not work. What was live before still is.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The bundle is not signed by a trusted key, is damaged, or holds a faulty manifest.
    #[error("the bundle is refused")]
    Bundle(#[from] BundleError),
    /// The manifest names something that the content lacks.
    #[error("{kind} {name:?} is in the manifest of app {app:?} but not in its bundle")]
    Missing {
        /// The app.
        app: String,
        /// What is missing: `plugin`, `asset` or `model`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The content pins another file than the manifest does.
    #[error(
        "model {model:?} is pinned to {pinned} by the manifest, but the bundle holds {bundled}"
    )]
    ModelMismatch {
        /// The model.
        model: String,
        /// `sha256` in the manifest.
        pinned: Digest,
        /// What the bundle says.
        bundled: Digest,
    },
    /// A model's file cannot be had.
    #[error("model {model:?} cannot be fetched")]
    Fetch {
        /// The model.
        model: String,
        /// Why.
        source: Box<FetchError>,
    },
    /// A model's file was read but not loaded.
    #[error("model {model:?} is refused")]
    Model {
        /// The model.
        model: String,
        /// Why.
        source: Box<InferenceError>,
    },
    /// A model lacks what its entry in the manifest names.
    #[error("model {model:?} of app {app:?} cannot be served as its [[model]] says")]
    ModelPolicy {
        /// The app.
        app: String,
        /// The model.
        model: String,
        /// The key, and what there is.
        source: Box<PolicyProblem>,
    },
    /// A plugin does not compile, or wants what the host does not give.
    #[error("plugin {plugin:?} is refused")]
    Plugin {
        /// The plugin.
        plugin: String,
        /// Why.
        source: Box<HostError>,
    },
    /// A route's path is not a pattern.
    #[error("route {path:?} of app {app:?}: {reason}")]
    BadRoute {
        /// The app.
        app: String,
        /// The pattern.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two routes would answer the same request.
    #[error(
        "route {method} {path} of app {app:?} conflicts with {other_path} of app {other_app:?}"
    )]
    RouteConflict {
        /// The app that is refused.
        app: String,
        /// The method, or `*` where the patterns themselves collide.
        method: String,
        /// The route that is refused.
        path: String,
        /// The app that has the route already.
        other_app: String,
        /// That route.
        other_path: String,
    },
    /// No app of this name was ever pushed.
    #[error("no app named {app:?} is deployed on this node")]
    UnknownApp {
        /// The name.
        app: String,
    },
    /// The app has no such revision, or it was dropped.
    #[error("app {app:?} has no revision {revision} on this node; `gw status` lists them")]
    UnknownRevision {
        /// The app.
        app: String,
        /// What was asked for.
        revision: Digest,
    },
    /// The app has nothing older to go back to.
    #[error("app {app:?} has no revision before the live one")]
    NothingBefore {
        /// The app.
        app: String,
    },
    /// Another process uses the state directory.
    #[error(
        "state directory {} is used by another process; stop it or choose another",
        dir.display()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// A file of the node cannot be read or written.
    #[error("{action} {}", path.display())]
    State {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A stored bundle is missing or no longer what was pushed.
    #[error("the stored bundle {revision} is missing or damaged: {reason}; push it again")]
    StoredBundle {
        /// The revision.
        revision: Digest,
        /// What was found.
        reason: String,
    },
    /// The node panicked while it staged a revision.
    #[error("staging panicked: {reason}")]
    Panicked {
        /// The panic's message.
        reason: String,
    },
}

impl DeployError {
    pub(crate) fn state(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::State { action, path: path.to_owned(), source }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Bundle(_)
            | Self::Missing { .. }
            | Self::ModelMismatch { .. }
            | Self::Model { .. }
            | Self::ModelPolicy { .. }
            | Self::Plugin { .. }
            | Self::BadRoute { .. }
            | Self::RouteConflict { .. }
            | Self::UnknownApp { .. }
            | Self::UnknownRevision { .. }
            | Self::NothingBefore { .. } => Fault::Caller,
            Self::Fetch { .. } => Fault::Upstream,
            Self::Locked { .. } | Self::State { .. } => Fault::Operator,
            Self::StoredBundle { .. } | Self::Panicked { .. } => Fault::Ours,
        }
    }
}

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Whoever pushed.
    Caller,
    /// A hub or a package index.
    Upstream,
    /// Whoever runs the node.
    Operator,
    /// Us.
    Ours,
}
