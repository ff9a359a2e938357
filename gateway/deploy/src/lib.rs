//! Names to live revisions: what is deployed on this node, and how it changes.
//!
//! It knows routes but serves no HTTP, compiles nothing and runs nothing itself: plugins are
//! `gw-host`'s, models are `gw-inference`'s, bundles and signatures are `gw-artifact`'s.
//!
//! A push goes down this list:
//!
//! - [`deployments`]: [`Deployments`] verifies, stages, records and swaps; rollback and status.
//! - [`loader`]: [`Loader`] turns a manifest and its content into a [`Revision`].
//! - [`revision`]: [`Revision`] and its [`Route`]s, immutable once built.
//! - `content`: the files a revision's plugins and models read, one directory per revision.
//! - [`routes`]: [`RouteTable`], what all live revisions of the node answer.
//! - `quarantine`: revisions that keep failing, and the way back.
//! - `changes`: what a push or a rollback reads and writes.
//! - `state`: the directory that survives restarts; `log`: the crash-safe record of releases.
//! - [`error`]: why a deployment was refused, and whose fault that is.
//!
//! **Invariant:** everything that can fail happens before the record is written, and the record is
//! on the disk before the swap. So a node killed at any moment starts again with the revision that
//! it served, or with the new one, and never with half of one.
#![forbid(unsafe_code)]

mod changes;
mod content;
pub mod deployments;
pub mod error;
pub mod loader;
mod log;
mod quarantine;
pub mod revision;
pub mod routes;
mod state;
pub mod status;

pub use deployments::{DeployConfig, Deployments};
pub use error::{DeployError, Fault};
pub use loader::Loader;
pub use revision::{Identity, ModelIdentity, PluginIdentity, Revision, Route};
pub use routes::{Found, Lookup, RESERVED_PATHS, RouteTable};
pub use status::{AppStatus, Fallback, RevisionStatus};
