//! What a request has met on its way through a chain.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gw_inference::InferenceError;

use crate::plugin::visit::Left;
use crate::{GuestError, Timings};

/// A plugin that failed and was left out, as its policy is.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// How it failed.
    pub error: Arc<GuestError>,
}

/// What a request has met until now.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it took, all plugins together.
    pub timings: Timings,
    /// The plugins that were left out.
    pub skipped: Vec<Skipped>,
    /// The last error that a `compute` gave a guest, which may have hidden it from the client.
    pub inference_error: Option<InferenceError>,
    /// How the rest of a chain failed a handler, which may have hidden it from the client.
    pub inner_error: Option<GuestError>,
}

/// What is noted on the way.
#[derive(Default)]
pub(crate) struct Trail(Mutex<Report>);

impl Trail {
    /// An instance has ended, or has begun its answer.
    pub(crate) fn passed(&self, left: &Left) {
        let mut notes = self.notes();
        let Timings { instantiate, plugin, queue, infer, device, awaited } = &left.timings;
        notes.timings.instantiate += *instantiate;
        notes.timings.plugin += *plugin;
        notes.timings.queue += *queue;
        notes.timings.infer += *infer;
        notes.timings.device = device.clone().or(notes.timings.device.take());
        notes.timings.awaited = awaited.clone().or(notes.timings.awaited.take());
        if let Some(error) = &left.inference_error {
            notes.inference_error = Some(error.clone());
        }
    }

    /// An instance that had begun its answer with `before` has ended.
    pub(crate) fn ended(&self, before: &Timings, left: Left) {
        let Left { mut timings, inference_error } = left;
        timings.plugin = timings.plugin.saturating_sub(before.plugin);
        self.passed(&Left { timings, inference_error });
    }

    /// A model has answered hooks, or refused.
    pub(crate) fn inferred(&self, queue: Duration, compute: Duration, device: &Arc<str>) {
        let mut notes = self.notes();
        notes.timings.queue += queue;
        notes.timings.infer += compute;
        if !compute.is_zero() {
            notes.timings.device = Some(Arc::clone(device));
        }
    }

    pub(crate) fn skipped(&self, error: GuestError) {
        self.notes().skipped.push(Skipped { error: Arc::new(error) });
    }

    pub(crate) fn failed(&self, error: GuestError) {
        self.notes().inner_error = Some(error);
    }

    pub(crate) fn report(&self) -> Report {
        self.notes().clone()
    }

    fn notes(&self) -> MutexGuard<'_, Report> {
        // Notes are plain data; a panic between two of them leaves both good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
