//! The settings of the request path.

use std::time::Duration;

use gw_artifact::{ByteSize, Digest, duration};
use serde::{Deserialize, Serialize};

/// Section `[server]` of the node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// SHA-256 digests of the API keys that clients send as `Authorization: Bearer KEY` or
    /// `x-api-key: KEY`. Outside loopback at least one is needed; on loopback a request without a
    /// key is let in. Each key is a tenant: tenants share no cached answers. Default: none.
    pub api_keys: Vec<Digest>,
    /// SHA-256 digests of the keys that the admin API takes. Outside loopback at least one is
    /// needed. Default: none.
    pub admin_keys: Vec<Digest>,
    /// Connections at once, per listener; one more waits to be accepted. Default 10,000.
    pub connections_max: usize,
    /// Requests at once; one more is answered 503. Default 4096: more than the plugins can run,
    /// because requests for one cached answer wait here together.
    pub requests_max: usize,
    /// How many of them one tenant may have, where the node has several: the rest is for the
    /// others. One more is answered 429. Default 3072, three quarters of all.
    pub requests_per_tenant_max: usize,
    /// The largest request body. Default 2 MiB.
    pub body_bytes_max: ByteSize,
    /// All request bodies together that are in memory at once; a request over it is answered 503.
    /// Default 256 MiB.
    pub bodies_bytes_max: ByteSize,
    /// How long a client may take to send a body. Default 30 s.
    #[serde(with = "duration")]
    pub body_timeout: Duration,
    /// How long a client may take to send the head of a request, and how long an idle connection
    /// is kept. Default 30 s.
    #[serde(with = "duration")]
    pub header_timeout: Duration,
    /// How long a client may take nothing of an answer; then its connection ends. Default 30 s.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// How long requests in flight may take to end after a shutdown began. Default 30 s.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// Memory for cached answers; 0 turns the cache off. Default 64 MiB.
    pub cache_bytes: ByteSize,
    /// The largest answer that is cached. Default 4 MiB.
    pub cache_object_bytes_max: ByteSize,
    /// Requests that may wait for the same answer while it is made; one more is answered 503.
    /// Default 4096.
    pub cache_waiters_max: usize,
    /// The largest bundle that may be pushed. Default 1 GiB.
    pub bundle_bytes_max: ByteSize,
}

const MIB: u64 = 1 << 20;

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            admin_keys: Vec::new(),
            connections_max: 10_000,
            requests_max: 4096,
            requests_per_tenant_max: 3072,
            body_bytes_max: ByteSize(2 * MIB),
            bodies_bytes_max: ByteSize(256 * MIB),
            body_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            cache_bytes: ByteSize(64 * MIB),
            cache_object_bytes_max: ByteSize(4 * MIB),
            cache_waiters_max: 4096,
            bundle_bytes_max: ByteSize(1024 * MIB),
        }
    }
}
