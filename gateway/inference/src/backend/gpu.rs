//! The GPU: `gw-engine` on one adapter.

use std::collections::BTreeMap;
use std::sync::Arc;

use gw_engine::{
    Device, Model, PlanCache, PlanOptions, Profile, RunError, Session, SessionOptions,
    SessionStats, Tuned, Tuning, Value, WeightMode,
};
use gw_tensor::{Shape, Tensor};

use super::guard::guard;
use super::import::{import_error, read, rows_are_independent, run_error, signature};
use super::nominal::nominal_shapes;
use super::{Backend, BackendKind, Footprint, LoadedModel, ModelSource, read_back};
use crate::batch::bucket;
use crate::{InferenceConfig, InferenceError, InputProblem, Signature};

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
        self.named(self.signature.check(inputs.to_vec()))
    }

    /// What was checked, with the names of the inputs.
    fn named<T>(
        &self,
        checked: Result<Vec<T>, Box<InputProblem>>,
    ) -> Result<Vec<(String, T)>, InferenceError> {
        let checked = checked
            .map_err(|problem| InferenceError::BadInput { model: self.name.clone(), problem })?;
        let names = self.signature.inputs.iter().map(|spec| spec.name.clone());
        Ok(names.zip(checked).collect())
    }
}

impl LoadedModel for GpuModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn name(&self) -> &str {
        &self.name
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

    fn run_values(
        &self,
        inputs: &[(String, Value)],
        keep_bytes_min: Option<u64>,
    ) -> Result<Vec<(String, Value)>, InferenceError> {
        let looked_at = |(name, value): &(String, Value)| {
            let value = match self.signature.looks_at(name) {
                true => read_back(&self.name, value.clone())?.into(),
                false => value.clone(),
            };
            Ok((name.clone(), value))
        };
        let inputs = inputs.iter().map(looked_at).collect::<Result<Vec<_>, InferenceError>>()?;
        let inputs = self.named(self.signature.check_values(inputs))?;
        guard(&self.name, &self.device, || {
            let outputs = self.session.run_values(&inputs, keep_bytes_min);
            outputs.map_err(|error| run_error(&self.name, &self.device, &error))
        })
    }

    fn rows_are_independent(&self) -> bool {
        self.rows_are_independent
    }

    fn padded(&self, size: usize) -> usize {
        bucket(size)
    }

    fn footprint(&self) -> Footprint {
        let stats = self.session.stats();
        Footprint {
            weight_bytes: stats.weight_bytes,
            arena_bytes: stats.arena_bytes,
            staging_bytes: stats.staging_bytes,
            kept_bytes: stats.kept_bytes,
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
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use gw_engine::AdapterSelect;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::batch;
    use crate::models::{Slot, Tenure};
    use crate::queue::QueueLimits;
    use crate::worker::Limits;
    use crate::{Inference, InferenceMetrics};

    const FLOAT: u8 = 1;
    const INT64: u8 = 7;

    /// A field of a protobuf message.
    fn field(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(body.len()).unwrap()], body].concat()
    }

    /// An ONNX file of one node: from `x` to `y`, each of any number of rows, `dims` behind them.
    fn onnx(op: &str, inputs: &[&str], [from, to]: [u8; 2], dims: &[u8], table: &[u8]) -> Bytes {
        let inputs: Vec<_> = inputs.iter().map(|name| field(0x0a, name.as_bytes())).collect();
        let node = [inputs.concat(), field(0x12, b"y"), field(0x22, op.as_bytes())].concat();
        let rows = field(0x0a, &field(0x12, b"n"));
        let dims = dims.iter().map(|&size| field(0x0a, &[0x08, size]));
        let shape = field(0x12, &[rows, dims.collect::<Vec<_>>().concat()].concat());
        let port = |name: &[u8], dtype| {
            let kind = field(0x0a, &[&[0x08, dtype], shape.as_slice()].concat());
            [field(0x0a, name), field(0x12, &kind)].concat()
        };
        let ports = [field(0x5a, &port(b"x", from)), field(0x62, &port(b"y", to))];
        let graph = [field(0x0a, &node), field(0x12, b"g"), table.to_vec(), ports.concat()];
        let model = [vec![0x08, 8], field(0x42, &[0x10, 13]), field(0x3a, &graph.concat())];
        model.concat().into()
    }

    /// `y = x + x`, over two floats a row.
    fn double() -> Bytes {
        onnx("Add", &["x", "x"], [FLOAT; 2], &[2], &[])
    }

    /// A GPU that keeps what is kept in memory of its own, as hardware does.
    fn gpu() -> Option<Arc<Gpu>> {
        let device = Device::open_unmapped(&AdapterSelect::Any).ok()?;
        let config = InferenceConfig { gpu_tune: Duration::ZERO, ..InferenceConfig::default() };
        Some(Arc::new(Gpu::new(device, &config)))
    }

    /// A model behind its queue, which keeps outputs of 16 bytes.
    fn served(gpu: &Arc<Gpu>, file: &Bytes) -> crate::Model {
        let (run_time, wait_max) = (Duration::from_hours(1), Duration::MAX);
        let queue = QueueLimits { max: 10, run_time, wait_max };
        let limits = Limits { queue, batch_max: 8, keep_bytes_min: 16, keep_alive: None };
        let metrics = InferenceMetrics::register(&mut Registry::default());
        let backend: Arc<dyn Backend> = Arc::<Gpu>::clone(gpu);
        let slot = Slot::new(Tenure::of("m", file, limits, &metrics, backend));
        slot.ready_blocking().unwrap();
        crate::Model::new("m", slot, &metrics)
    }

    async fn ask(
        model: &crate::Model,
        x: impl Into<Value>,
    ) -> Result<Inference<Value>, InferenceError> {
        let inputs = vec![("x".to_owned(), x.into())];
        let terms = crate::Terms::until(Instant::now() + Duration::from_mins(1));
        model.infer_kept(inputs, terms).await
    }

    fn answered(answer: Result<Inference<Value>, InferenceError>) -> Value {
        answer.unwrap().outputs.remove(0).1
    }

    fn floats(value: Value) -> Vec<f32> {
        read_back("m", value).unwrap().to_vec().unwrap()
    }

    #[tokio::test]
    async fn what_one_model_leaves_on_the_gpu_another_takes_from_there() {
        let Some(gpu) = gpu() else { return };
        let (first, second) = (served(&gpu, &double()), served(&gpu, &double()));
        // So many rows are one run only once a run was measured.
        answered(ask(&first, Tensor::from_slice([1, 2], &[0f32; 2]).unwrap()).await);
        // Five rows run as six.
        let x: Vec<f32> = (0u8..10).map(f32::from).collect();
        let times = |factor: f32| x.iter().map(|x| x * factor).collect::<Vec<_>>();
        let y = answered(ask(&first, Tensor::from_slice([5, 2], &x).unwrap()).await);
        assert!(matches!(&y, Value::Device(_)), "{y:?}");
        assert_eq!(y.shape().dims(), [5, 2]);
        let z = answered(ask(&second, y.clone()).await);
        assert!(matches!(&z, Value::Device(_)), "{z:?}");
        assert_eq!(floats(z.clone()), times(4.0));
        // What rows of a batch there are is one memory.
        let parts = batch::split(&[z], &[2, 3]).unwrap();
        let parts = parts.into_iter().flatten().flat_map(floats).collect::<Vec<_>>();
        assert_eq!(parts, times(4.0));
        let inputs = [("x".to_owned(), y)];
        let cpu = Cpu::new(None).load("m", ModelSource::Bytes(&double())).unwrap();
        let outputs = cpu.run_values(&inputs, Some(0)).unwrap();
        assert_eq!(outputs[0].1.host().unwrap().to_vec::<f32>().unwrap(), times(4.0));
    }

    #[tokio::test]
    async fn small_answers_and_those_to_others_come_to_the_host() {
        let Some(gpu) = gpu() else { return };
        let model = served(&gpu, &double());
        let small = Tensor::from_slice([1, 2], &[1f32, 2.0]).unwrap();
        let y = answered(ask(&model, small).await);
        assert_eq!(y.host().unwrap().to_vec::<f32>().unwrap(), [2.0, 4.0]);
        let large = vec![("x".to_owned(), Tensor::from_slice([4, 2], &[1f32; 8]).unwrap())];
        let answer = model.infer(large, Instant::now() + Duration::from_mins(1)).await.unwrap();
        assert_eq!(answer.outputs[0].1.to_vec::<f32>().unwrap(), [2.0; 8]);
    }

    #[tokio::test]
    async fn indices_on_the_device_are_checked_too() {
        let Some(gpu) = gpu() else { return };
        let ids = served(&gpu, &onnx("Add", &["x", "x"], [INT64; 2], &[], &[]));
        let table = [&[0x08, 3, 0x10, FLOAT], &*field(0x42, b"t"), &*field(0x4a, &[0; 12])];
        let table = field(0x2a, &table.concat());
        let lookup = served(&gpu, &onnx("Gather", &["t", "x"], [INT64, FLOAT], &[], &table));
        for (last, fits) in [(1, true), (2, false)] {
            let x = Tensor::from_slice([4], &[0i64, 1, 1, last]).unwrap();
            let given = answered(ask(&ids, x).await);
            assert!(matches!(&given, Value::Device(_)), "{given:?}");
            let answer = ask(&lookup, given).await;
            match answer {
                Ok(_) => assert!(fits),
                Err(error) => {
                    assert!(!fits && matches!(error, InferenceError::BadInput { .. }), "{error}");
                }
            }
        }
    }
}
