//! What people and tools see of the deployments.

use gw_artifact::Digest;
use serde::{Deserialize, Serialize};

/// One app of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub app: String,
    /// The revision that answers; none when nothing of the app loads.
    pub live: Option<Digest>,
    /// Set when the revision that answers is not the one that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// What can be rolled back to, the oldest first.
    pub revisions: Vec<RevisionStatus>,
}

/// A revision that should be live but does not load, or kept failing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// The revision that was pushed or rolled back to last.
    pub wanted: Digest,
    /// Why it is not live.
    pub reason: String,
}

/// One revision of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionStatus {
    /// Its name.
    pub digest: Digest,
    /// The version in its manifest.
    pub version: String,
    /// When it was pushed, in seconds since 1970.
    pub created: u64,
    /// The public key of whoever signed it; empty in `gw dev`.
    pub signer: String,
    /// Whether it answers now.
    pub live: bool,
    /// How it kept failing, where it is in quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}
