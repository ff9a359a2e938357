//! One instance: what it does for one request, within its limits, and how that ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use gw_inference::{Fault, InferenceError};
use wasmtime::{Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::meter::Meter;
use crate::instance::{self, Over, State};
use crate::{Call, GuestError, Plugin, Timings};

/// An instance that is about to be made, with what it will own.
pub(crate) struct Visit<T: 'static = State> {
    plugin: Arc<Plugin>,
    pub(crate) store: Store<T>,
    pub(crate) meter: Meter,
    started: Instant,
    deadline: Instant,
}

/// What an instance leaves behind.
pub(crate) struct Left {
    pub(crate) timings: Timings,
    /// The last error that a `compute` gave the guest.
    pub(crate) inference_error: Option<InferenceError>,
}

impl Visit {
    pub(crate) fn new(plugin: &Arc<Plugin>, call: &Call) -> wasmtime::Result<Self> {
        Self::with(plugin, call, |meter| instance::store(plugin, call, meter))
    }
}

impl<T: Over> Visit<T> {
    /// With a store of its own, whose guest `meter` measures.
    pub(crate) fn with(
        plugin: &Arc<Plugin>,
        call: &Call,
        store: impl FnOnce(Meter) -> wasmtime::Result<Store<T>>,
    ) -> wasmtime::Result<Self> {
        let (started, deadline, meter) = (Instant::now(), call.deadline, Meter::default());
        let store = store(meter.clone())?;
        Ok(Self { plugin: Arc::clone(plugin), store, meter, started, deadline })
    }

    /// Runs `work`, which makes the instance and notes how long that took, and then ends the
    /// instance, whatever it has left open.
    pub(crate) async fn run<R>(
        mut self,
        work: impl for<'s> FnOnce(
            &'s mut Store<T>,
            &'s mut Duration,
        ) -> BoxFuture<'s, wasmtime::Result<R>>,
    ) -> Result<(R, Left), GuestError> {
        let mut timings = Timings::default();
        let prepared = self.started.elapsed();
        let ended = {
            let guest = self.meter.measure(work(&mut self.store, &mut timings.instantiate));
            tokio::time::timeout_at(self.deadline.into(), guest).await
        };
        timings.instantiate += prepared;
        timings.plugin = prepared + self.meter.time();
        let (growth, nn) = self.store.into_data().over();
        let (memory_refused, inference_error) = (growth.memory_refused(), nn.error());
        nn.report(&mut timings);
        let plugin = &self.plugin;
        plugin.metrics.visited(&plugin.name, &timings, growth.bytes());

        match ended {
            Ok(Ok(done)) => Ok((done, Left { timings, inference_error })),
            Err(_) => Err(late(plugin, self.started, timings)),
            Ok(Err(error)) if error.downcast_ref() == Some(&Trap::Interrupt) => {
                if self.meter.time() < plugin.time {
                    return Err(late(plugin, self.started, timings));
                }
                let (plugin, limit) = (plugin.name.clone(), plugin.time);
                Err(GuestError::Timeout { plugin, limit, timings })
            }
            Ok(Err(_)) if memory_refused => {
                let (plugin, limit) = (plugin.name.clone(), plugin.memory_bytes);
                Err(GuestError::OutOfMemory { plugin, limit, timings })
            }
            Ok(Err(error)) => Err(match error.downcast_ref::<InferenceError>() {
                // A host call that can give the guest no error.
                Some(failed) => {
                    let (plugin, source) = (plugin.name.clone(), Arc::new(failed.clone()));
                    GuestError::Inference { plugin, source, timings }
                }
                None => blamed(inference_error.as_ref(), trapped(plugin, &error, timings), plugin),
            }),
        }
    }
}

fn late(plugin: &Plugin, started: Instant, timings: Timings) -> GuestError {
    let (plugin, after) = (plugin.name.clone(), started.elapsed());
    GuestError::DeadlinePassed { plugin, after, timings }
}

/// `failure` of a guest, or that of its model where it could do nothing about it: a guest that ends
/// badly for want of an answer is not at fault.
pub(crate) fn blamed(
    model: Option<&InferenceError>,
    failure: GuestError,
    plugin: &Plugin,
) -> GuestError {
    let Some(error) = model.filter(|error| error.fault() != Fault::Caller) else { return failure };
    let (plugin, source) = (plugin.name.clone(), Arc::new(error.clone()));
    GuestError::Inference { plugin, source, timings: failure.timings() }
}

pub(crate) fn trapped(plugin: &Plugin, error: &wasmtime::Error, timings: Timings) -> GuestError {
    let message = match error.downcast_ref::<I32Exit>() {
        Some(exit) => format!("the guest exited with status {}", exit.0),
        None => error.root_cause().to_string(),
    };
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
    let (plugin, backtrace) = (plugin.name.clone(), backtrace.unwrap_or_default());
    GuestError::Trap { plugin, message, backtrace, timings }
}
