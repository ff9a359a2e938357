//! The GPU: `gw-engine` on one adapter.

use std::collections::BTreeMap;
use std::sync::Arc;

use gw_engine::{
    Device, Model, PlanCache, PlanOptions, Profile, RunError, Session, SessionOptions,
    SessionStats, Tuned, Tuning, WeightMode,
};
use gw_tensor::{Shape, Tensor};

use super::guard::guard;
use super::import::{import_error, read, rows_are_independent, run_error, signature};
use super::nominal::nominal_shapes;
use super::{Backend, BackendKind, Footprint, LoadedModel, ModelSource};
use crate::{InferenceConfig, InferenceError, Signature};

/// One adapter.
pub(super) struct Gpu {
    device: Arc<Device>,
    name: Arc<str>,
    options: SessionOptions,
}

impl Gpu {
    pub(super) fn new(device: Arc<Device>, config: &InferenceConfig) -> Self {
        let name = device.info().name.as_str().into();
        let weights = if config.gpu_expand_weights { WeightMode::F32 } else { WeightMode::Int8 };
        let plan = PlanOptions { weights, fuse: config.gpu_fuse };
        let bytes_max = config.plan_cache_bytes_max;
        let dir = config.plan_cache_dir.as_ref().filter(|_| bytes_max > 0);
        let cache = dir.map(|dir| Arc::new(PlanCache::new(dir, bytes_max)));
        // Nothing runs on `noop`, so nothing is fast there.
        let tunes = device.info().backend != "noop";
        let tuning = tunes.then(|| Arc::new(Tuning::new(&device, cache.clone(), config.gpu_tune)));
        let options = SessionOptions { plan, cache, tuning, ..SessionOptions::default() };
        Self { device, name, options }
    }
}

impl Backend for Gpu {
    fn kind(&self) -> BackendKind {
        BackendKind::Gpu
    }

    fn device(&self) -> &str {
        &self.name
    }

    fn load(
        &self,
        name: &str,
        source: ModelSource<'_>,
    ) -> Result<Box<dyn LoadedModel>, InferenceError> {
        let model = guard(name, &self.name, || {
            read(name, source).map_err(|error| import_error(name, &self.name, &error))
        })?;
        self.load_model(name, model)
    }
}

impl Gpu {
    /// As [`Backend::load`], of a file that is read already.
    pub(super) fn load_model(
        &self,
        name: &str,
        model: Model,
    ) -> Result<Box<dyn LoadedModel>, InferenceError> {
        guard(name, &self.name, || {
            let signature = signature(model.graph());
            let rows_are_independent = rows_are_independent(model.graph());
            let (device, options) = (Arc::clone(&self.device), self.options.clone());
            let session = Session::new(Arc::new(model), device, options);
            let (name, device) = (name.to_owned(), Arc::clone(&self.name));
            let model = GpuModel { name, device, session, signature, rows_are_independent };
            Ok(Box::new(model) as _)
        })
    }
}

struct GpuModel {
    name: String,
    device: Arc<str>,
    session: Session,
    signature: Signature,
    rows_are_independent: bool,
}

impl GpuModel {
    fn checked(
        &self,
        inputs: &[(String, Tensor)],
    ) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let checked = (self.signature.check(inputs.to_vec()))
            .map_err(|problem| InferenceError::BadInput { model: self.name.clone(), problem })?;
        let names = self.signature.inputs.iter().map(|spec| spec.name.clone());
        Ok(names.zip(checked).collect())
    }
}

/// The next of 1, 2, 3, 4, 6, 8, 12, 16 …: at most a third of a run is wasted, and 64 rows need
/// only twelve plans for each shape of a row.
fn padded(rows: usize) -> usize {
    let above = rows.next_power_of_two();
    let between = above / 4 * 3;
    if rows <= between { between } else { above }
}

impl LoadedModel for GpuModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn device(&self) -> &str {
        &self.device
    }

    /// Runs once on nothing, so that the driver has compiled most kernels. What goes wrong at sizes
    /// that nobody asked for says nothing about other sizes, unless a kernel is missing.
    fn warm_up(&self) -> Result<(), InferenceError> {
        let Some(shapes) = nominal_shapes(&self.signature) else { return Ok(()) };
        let warmed = guard(&self.name, &self.device, || {
            let warmed = self.session.warm_up(&shapes);
            warmed.map_err(|error| run_error(&self.name, &self.device, &error))
        });
        match warmed {
            Err(error @ (InferenceError::Unsupported { .. } | InferenceError::Panicked { .. })) => {
                Err(error)
            }
            Err(error) => {
                tracing::debug!(model = %self.name, %error, "not warmed up");
                Ok(())
            }
            Ok(()) => {
                let SessionStats { planned, loaded, .. } = self.session.stats();
                tracing::debug!(model = %self.name, planned, loaded, "warmed up");
                Ok(())
            }
        }
    }

    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let inputs = self.checked(inputs)?;
        guard(&self.name, &self.device, || {
            self.session.run(&inputs).map_err(|error| run_error(&self.name, &self.device, &error))
        })
    }

    fn rows_are_independent(&self) -> bool {
        self.rows_are_independent
    }

    fn padded_rows(&self, rows: usize) -> usize {
        padded(rows)
    }

    fn footprint(&self) -> Footprint {
        let stats = self.session.stats();
        Footprint {
            weight_bytes: stats.weight_bytes,
            arena_bytes: stats.arena_bytes + stats.staging_bytes,
            peak_bytes: stats.peak_bytes,
        }
    }

    fn dispatches(&self, shapes: &[(String, Shape)]) -> Result<Option<usize>, InferenceError> {
        guard(&self.name, &self.device, || {
            let shapes: BTreeMap<String, Shape> = shapes.iter().cloned().collect();
            match self.session.plan_for(&shapes) {
                Ok(plan) => Ok(Some(plan.dispatches)),
                // Those of the last run, where there was one.
                Err(RunError::ValueNeeded { .. }) => {
                    Ok(Some(self.session.stats().dispatches).filter(|&count| count > 0))
                }
                Err(error) => Err(run_error(&self.name, &self.device, &error)),
            }
        })
    }

    fn settle(&self) -> Vec<Tuned> {
        self.session.settle()
    }

    fn profile(
        &self,
        inputs: &[(String, Tensor)],
        runs: u32,
    ) -> Result<Option<Profile>, InferenceError> {
        let inputs = self.checked(inputs)?;
        guard(&self.name, &self.device, || {
            let profile = self.session.profile(&inputs, runs);
            profile.map(Some).map_err(|error| run_error(&self.name, &self.device, &error))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_padded_to_few_sizes() {
        let sizes: Vec<usize> = (1..=33).map(padded).collect();
        let mut few = sizes.clone();
        few.dedup();
        assert_eq!(few, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48]);
        assert!(sizes.iter().zip(1..).all(|(&size, rows)| size >= rows && size * 2 <= rows * 3));
    }
}
