//! What went wrong on a request's way: whom it is held against, and what is told of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::BodyExt;

use super::Trip;
use crate::{Body, GuestError, Plugin};

impl Trip {
    /// Notes that the request goes on without a plugin.
    pub(super) fn skipped(&self, plugin: &Plugin, error: GuestError) {
        let (id, plugin_name) = (&self.call.request_id, &*plugin.name);
        let reason = self.told(&error);
        tracing::warn!(id, plugin = plugin_name, reason, "failed plugin left out");
        plugin.metrics.skipped(&plugin.name);
        self.trail.skipped(error);
    }

    /// The client's body, whose end is noted where it is no good one.
    pub(super) fn watched(self: &Arc<Self>, body: Body) -> Body {
        if body.as_whole().is_some() {
            return body;
        }
        let trip = Arc::clone(self);
        Body::stream(body.map_err(move |error| {
            trip.broke_off.store(true, Ordering::Relaxed);
            error
        }))
    }

    /// A guest that was given the request has ended. One that fails over a body that broke off
    /// tells nothing about its plugin.
    pub(crate) fn ended(&self, plugin: &Plugin, error: Option<&GuestError>) {
        if error.is_some() && self.broke_off.load(Ordering::Relaxed) {
            plugin.metrics.handled(&plugin.name, error);
        } else {
            plugin.ended(error);
        }
    }

    /// What the plugin `at` may answer, in bytes.
    pub(crate) fn response_bytes_max(&self, at: usize) -> usize {
        self.chain.0[at].plugin.config.response_bytes_max
    }

    /// An error, as its neighbours and the log may have it.
    pub(crate) fn told(&self, error: &GuestError) -> String {
        self.chain.mask(&error.to_string())
    }

    /// Notes why the rest of the chain gave no answer, or no whole one, to a handler, which may
    /// make an answer of its own of it.
    pub(crate) fn failed(&self, error: GuestError) {
        let (id, cause) = (&self.call.request_id, std::error::Error::source(&error));
        let cause = cause.map(|cause| self.chain.mask(&cause.to_string()));
        let reason = self.told(&error);
        tracing::warn!(id, reason, cause, "rest of a chain failed");
        self.trail.failed(error);
    }
}
