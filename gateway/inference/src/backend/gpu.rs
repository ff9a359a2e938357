//! The GPU: `gw-engine` on one adapter.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use gw_engine::{
    Device, OpError, PlanCache, PlanError, PlanOptions, RunError, Session, SessionOptions,
    SessionStats, WeightMode,
};
use gw_tensor::{Shape, Tensor};

use super::guard::guard;
use super::import::{chain, import_error, rows_are_independent, signature};
use super::{Backend, BackendKind, Footprint, LoadedModel};
use crate::signature::Dim;
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
        Self { device, name, options: SessionOptions { plan, cache, ..SessionOptions::default() } }
    }
}

impl Backend for Gpu {
    fn kind(&self) -> BackendKind {
        BackendKind::Gpu
    }

    fn device(&self) -> &str {
        &self.name
    }

    fn load(&self, name: &str, path: &Path) -> Result<Box<dyn LoadedModel>, InferenceError> {
        guard(name, &self.name, || {
            let model = gw_engine::Model::open(path)
                .map_err(|error| import_error(name, &self.name, &error))?;
            let signature = signature(model.graph());
            let rows_are_independent = rows_are_independent(model.graph());
            let (device, options) = (Arc::clone(&self.device), self.options.clone());
            let session = Session::new(Arc::new(model), device, options);
            let (name, device) = (name.to_owned(), Arc::clone(&self.name));
            let model = GpuModel { name, device, session, signature, rows_are_independent };
            model.warm_up()?;
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
    /// Runs once on nothing, so that a form of an operator without a kernel is found at load and
    /// the driver has compiled most kernels before the first request. What else goes wrong at
    /// sizes that nobody asked for says nothing about other sizes.
    fn warm_up(&self) -> Result<(), InferenceError> {
        let Some(shapes) = nominal_shapes(&self.signature) else { return Ok(()) };
        match self.session.warm_up(&shapes).map_err(|error| self.run_error(&error)) {
            Err(error @ InferenceError::Unsupported { .. }) => Err(error),
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

    fn run_error(&self, error: &RunError) -> InferenceError {
        let (model, device) = (self.name.clone(), self.device.to_string());
        match error {
            RunError::Plan(PlanError::Node { node, op, reason, .. }) if lacks_kernel(reason) => {
                let (op, node, reason) = (op.clone(), node.clone(), reason.to_string());
                InferenceError::Unsupported { model, device, op, node, reason }
            }
            // A shape that the model cannot take, or that is too large for the adapter.
            RunError::Plan(_) | RunError::Memory(_) => {
                InferenceError::Run { model, device, reason: chain(error) }
            }
            _ if error.is_caller_fault() => {
                InferenceError::Run { model, device, reason: chain(error) }
            }
            _ => InferenceError::Device { model, device, reason: chain(error) },
        }
    }
}

/// One row, and 32 in every other free dimension: enough for the strides of an image model and a
/// common length of text. `None` where even a rank is open.
fn nominal_shapes(signature: &Signature) -> Option<BTreeMap<String, Shape>> {
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    let mut shapes = BTreeMap::new();
    for spec in &signature.inputs {
        let mut shape = Vec::new();
        for (axis, dim) in spec.dims.as_ref()?.iter().enumerate() {
            let free = if axis == 0 { 1 } else { 32 };
            shape.push(match dim {
                Dim::Fixed(size) => *size,
                Dim::Symbol(symbol) => *sizes.entry(symbol).or_insert(free),
                Dim::Unknown => free,
            });
        }
        shapes.insert(spec.name.clone(), shape.into());
    }
    Some(shapes)
}

/// The next of 1, 2, 3, 4, 6, 8, 12, 16 …: at most a third of a run is wasted, and 64 rows need
/// only twelve plans for each shape of a row.
fn padded(rows: usize) -> usize {
    let above = rows.next_power_of_two();
    let between = above / 4 * 3;
    if rows <= between { between } else { above }
}

/// Whether no shape would help.
fn lacks_kernel(error: &OpError) -> bool {
    matches!(
        error,
        OpError::Unsupported(_) | OpError::Kernel(_) | OpError::Type { .. } | OpError::Dynamic(_)
    )
}

impl LoadedModel for GpuModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let checked = (self.signature.check(inputs.to_vec()))
            .map_err(|problem| InferenceError::BadInput { model: self.name.clone(), problem })?;
        let names = self.signature.inputs.iter().map(|spec| spec.name.clone());
        let inputs: Vec<(String, Tensor)> = names.zip(checked).collect();
        guard(&self.name, &self.device, || {
            self.session.run(&inputs).map_err(|error| self.run_error(&error))
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
                Err(RunError::ValueNeeded { .. }) => Ok(None),
                Err(error) => Err(self.run_error(&error)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorSpec;

    #[test]
    fn batches_are_padded_to_few_sizes() {
        let sizes: Vec<usize> = (1..=33).map(padded).collect();
        let mut few = sizes.clone();
        few.dedup();
        assert_eq!(few, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48]);
        assert!(sizes.iter().zip(1..).all(|(&size, rows)| size >= rows && size * 2 <= rows * 3));
    }

    #[test]
    fn nominal_shapes_give_one_symbol_one_size() {
        let symbol = |name: &str| Dim::Symbol(name.to_owned());
        let spec = |name: &str, dims| TensorSpec {
            name: name.to_owned(),
            dtype: gw_tensor::DType::F32,
            dims: Some(dims),
        };
        let inputs = vec![
            spec("a", vec![symbol("batch"), symbol("length"), Dim::Fixed(3)]),
            spec("b", vec![symbol("length"), symbol("batch"), Dim::Unknown]),
        ];
        let mut signature = Signature { inputs, outputs: Vec::new() };
        let shapes = nominal_shapes(&signature).unwrap();
        assert_eq!(shapes["a"].dims(), [1, 32, 3]);
        assert_eq!(shapes["b"].dims(), [32, 1, 32]);
        signature.inputs[0].dims = None;
        assert_eq!(nominal_shapes(&signature), None);
    }
}
