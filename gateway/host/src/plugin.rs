//! A loaded plugin, and one request through it.

pub(crate) mod cgi;
pub(crate) mod exchange;
mod gate;
pub mod health;
pub(crate) mod hooks;
pub(crate) mod limits;
mod meter;
pub(crate) mod visit;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gw_artifact::Digest;
use gw_artifact::manifest::{Limits, NnDialect};
use gw_inference::{DeviceChoice, Models};
use wasmtime::{Engine, InstancePre};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

pub(crate) use self::gate::{Gate, Place};
use self::hooks::HooksPre;
pub(crate) use self::meter::Meter;
use crate::chain::{Chain, Report};
use crate::engine::Ticker;
use crate::imports::grants::Reach;
use crate::imports::nn::loaded::Loading;
use crate::instance::State;
use crate::instance::module::ModuleState;
use crate::metrics::HostMetrics;
use crate::{Body, BodyError, GuestError, Handled, Health, HostConfig, Timings};

/// What to load, and what it may do.
#[derive(Clone)]
pub struct PluginSpec {
    /// The plugin's name in the manifest; logs, errors and metrics use it.
    pub name: String,
    /// The component, or the core module.
    pub wasm: Bytes,
    /// What a request may cost in it. Its memory is over all its memories; waiting, for a model
    /// above all, is not in its time: the deadline of a [`Call`] bounds that.
    pub limits: Limits,
    /// The models that it may load by name. There are no others for it.
    pub models: HashMap<String, Arc<gw_inference::Model>>,
    /// Whether it may load models from bytes.
    pub load: Option<LoadGrant>,
    /// The directory that it sees, read-only, as `/assets`.
    pub assets: Option<PathBuf>,
    /// Who is told when it keeps failing.
    pub health: Health,
    /// The app that it belongs to, which owns its buckets.
    pub app: String,
    /// What else it may reach.
    pub grants: gw_artifact::manifest::Grants,
    /// What it means by wasi-nn, where it is a core module.
    pub wasi_nn: NnDialect,
}

/// Leave to load models from bytes. Such a model runs beside all others, for as long as it runs:
/// it is for plugins that are trusted with the time of the node's devices.
#[derive(Clone)]
pub struct LoadGrant {
    /// The largest model, in bytes.
    pub bytes_max: u64,
    /// What loads it.
    pub models: Arc<Models>,
    /// Where it runs. [`DeviceChoice::Auto`] leaves it to the guest, anything else is the
    /// operator's word and wins over the guest's.
    pub device: DeviceChoice,
}

/// What a call brings beside the request itself.
#[derive(Clone, Debug)]
pub struct Call {
    /// When the whole answer must be there, whatever it waits for; the plugin's own time limit may
    /// end earlier.
    pub deadline: Instant,
    /// Names the request in the guest's log lines.
    pub request_id: String,
    /// For whom it is, towards models.
    pub caller: Arc<gw_inference::Caller>,
}

/// A compiled and linked plugin. Every request gets a fresh instance of it.
pub struct Plugin {
    pub(crate) name: Arc<str>,
    pub(crate) digest: Digest,
    pub(crate) kind: Kind,
    pub(crate) memory_bytes: u64,
    pub(crate) time: Duration,
    pub(crate) grants: Arc<Grants>,
    pub(crate) gate: Arc<Gate>,
    /// The node's, narrowed to the plugin's own limits.
    pub(crate) config: Arc<HostConfig>,
    pub(crate) metrics: HostMetrics,
    pub(crate) health: Health,
    /// Busy guests are interrupted for as long as any plugin lives.
    pub(crate) _ticker: Arc<Ticker>,
}

/// What a plugin exports, which says how it is called.
pub(crate) enum Kind {
    /// `wasi:http/incoming-handler`.
    Handler(ProxyPre<State>),
    /// `pre` and `post` of `gw:plugin`.
    Hooks(HooksPre<State>),
    /// `_start` of a core module, which is started for each request, the CGI way.
    Command(InstancePre<ModuleState>),
}

/// What the guests of one plugin may reach.
#[derive(Default)]
pub(crate) struct Grants {
    pub(crate) models: HashMap<String, Arc<gw_inference::Model>>,
    pub(crate) load: Option<Loading>,
    pub(crate) assets: Option<PathBuf>,
    pub(crate) reach: Reach,
}

impl Plugin {
    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of the component or core module.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Answers one request by itself, with a fresh instance, and waits for the whole answer.
    /// Dropping the future ends the guest, and its inference with it.
    ///
    /// # Errors
    /// How the guest failed; nothing that it does reaches another request.
    ///
    /// # Panics
    /// Outside a tokio runtime with its timer enabled.
    pub async fn handle(
        self: &Arc<Self>,
        request: http::Request<Bytes>,
        call: Call,
    ) -> Result<Handled, GuestError> {
        let chain = Chain::of(Arc::clone(self));
        let answer = chain.answer(request.map(Body::whole), call, None).await?;
        let (head, body) = answer.response.into_parts();
        let body = body.collect(self.config.response_bytes_max).await;
        let body = body.map_err(|error| match error {
            BodyError::Guest(error) => *error,
            other => self.bad_response(other.to_string()),
        })?;
        let Report { timings, inference_error, .. } = answer.progress.report();
        let response = http::Response::from_parts(head, body);
        Ok(Handled { response, timings, inference_error })
    }

    /// One of its guests has done what it was asked for, or failed.
    pub(crate) fn ended(&self, error: Option<&GuestError>) {
        self.metrics.handled(&self.name, error);
        self.health.note(error, |text| self.mask(text));
    }

    /// What may be told of a text that its guest may have spelled: no secrets, and not too much.
    pub(crate) fn mask(&self, text: &str) -> String {
        const TEXT_BYTES_MAX: usize = 2 << 10;
        // Before it is cut, as a cut may go through a secret.
        let mut text = self.grants.reach.masks.mask(text);
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text
    }

    pub(crate) fn engine(&self) -> &Engine {
        match &self.kind {
            Kind::Handler(pre) => pre.engine(),
            Kind::Hooks(pre) => pre.engine(),
            Kind::Command(pre) => pre.module().engine(),
        }
    }

    pub(crate) fn bad_response(&self, reason: String) -> GuestError {
        let (plugin, timings) = (self.name.clone(), Timings::default());
        GuestError::BadResponse { plugin, reason, timings }
    }
}
