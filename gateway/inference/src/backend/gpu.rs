//! The GPU: `gw-engine` on one adapter.
//!
//! A device may be lost at any moment, and every session with it. Whoever meets a lost one takes
//! the next from the `place`, makes a session of its model there and runs once more.

mod place;
mod trim;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use gw_engine::{
    AdapterSelect, Device, DeviceError, Model, PlanOptions, Profile, RunError, Session,
    SessionOptions, SessionStats, Tuned, Tuning, Value, WeightMode,
};
use gw_tensor::{Shape, Tensor};

use self::place::{Open, Place};
use self::trim::{Trims, keep_large_apart, trim};
use super::guard::guard;
use super::import::{chain, import_error, read, run_error, signature};
use super::nominal::nominal_shapes;
use super::rows::Rows;
use super::{Backend, BackendKind, Footprint, LoadedModel, ModelSource, plan_cache, read_back};
use crate::batch::bucket;
use crate::{InferenceConfig, InferenceError, InferenceMetrics, InputProblem, Signature};

/// One adapter.
pub(super) struct Gpu {
    place: Arc<Place>,
    name: Arc<str>,
    options: SessionOptions,
}

impl Gpu {
    /// The adapter of an opened device.
    pub(super) fn new(device: Arc<Device>, config: &InferenceConfig) -> Self {
        let select = AdapterSelect::Named(device.info().name.clone());
        Self::opened(device, Box::new(move || Device::open(&select)), config)
    }

    /// As [`Gpu::new`], of a device that `open` opens anew.
    pub(super) fn opened(device: Arc<Device>, open: Open, config: &InferenceConfig) -> Self {
        keep_large_apart();
        let weights = if config.gpu_expand_weights { WeightMode::F32 } else { WeightMode::Int8 };
        let plan = PlanOptions { weights, fuse: config.gpu_fuse };
        let cache = plan_cache(config);
        // Nothing runs on `noop`, so nothing is fast there.
        let tunes = device.info().backend != "noop";
        let tuning = tunes.then(|| Arc::new(Tuning::new(&device, cache.clone(), config.gpu_tune)));
        let default = SessionOptions::default();
        // One model's runs must not take more than all models may hold.
        let room = config.gpu_memory_max.map_or(u64::MAX, |room| room.0);
        let memory_max = default.memory_max.min(room);
        let options = SessionOptions { plan, cache, tuning, memory_max, ..default };
        let place = Arc::new(Place::new(device, open, config.gpu_hang_time));
        Self { name: Arc::clone(place.name()), place, options }
    }
}

impl Backend for Gpu {
    fn kind(&self) -> BackendKind {
        BackendKind::Gpu
    }

    fn device(&self) -> &str {
        &self.name
    }

    fn watch(&self, metrics: &InferenceMetrics) {
        self.place.watch(metrics.failures(&self.name));
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
            let rows = Rows::of(&model, &signature);
            let (place, options) = (Arc::clone(&self.place), self.options.clone());
            let device = place.device().map_err(|gone| gone.of(name, &self.name))?;
            let model = Arc::new(model);
            let session = Session::new(Arc::clone(&model), device, options.clone());
            let (session, name) = (Mutex::new(Arc::new(session)), name.to_owned());
            let device = Arc::clone(&self.name);
            Ok(Box::new(GpuModel {
                name,
                device,
                model,
                place,
                options,
                session,
                keeps: BTreeSet::new(),
                signature,
                rows,
                _trims: Trims,
            }) as _)
        })
    }
}

struct GpuModel {
    name: String,
    device: Arc<str>,
    model: Arc<Model>,
    place: Arc<Place>,
    options: SessionOptions,
    /// On the device that is there, or on the one that was.
    session: Mutex<Arc<Session>>,
    /// Outputs that stay on the device however small they are.
    keeps: BTreeSet<String>,
    signature: Signature,
    rows: Rows,
    // Last: it gives back what the others have freed.
    _trims: Trims,
}

impl GpuModel {
    fn session_on(&self, device: Arc<Device>) -> Session {
        let mut session = Session::new(Arc::clone(&self.model), device, self.options.clone());
        session.keep_always(self.keeps.clone());
        session
    }

    /// The session, made anew where its device is gone.
    fn session(&self) -> Result<Arc<Session>, InferenceError> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if !session.device().is_lost() {
            return Ok(Arc::clone(&session));
        }
        let device = self.place.device().map_err(|gone| gone.of(&self.name, &self.device))?;
        *session = Arc::new(self.session_on(device));
        let anew = Arc::clone(&session);
        drop(session);
        tracing::info!(model = %self.name, device = %self.device, "model loaded on the new device");
        // Before a run is given only so much time, the driver has compiled what it takes.
        if let Some(shapes) = nominal_shapes(&self.signature)
            && let Err(error) = anew.warm_up(&shapes)
        {
            tracing::debug!(model = %self.name, %error, "not warmed up");
        }
        Ok(anew)
    }

    /// Does `work`, and once more where the device was lost under it. One that hung is not asked
    /// again: it was perhaps this that hung it.
    fn with_session<T>(
        &self,
        work: impl Fn(&Session) -> Result<T, RunError>,
    ) -> Result<T, InferenceError> {
        let session = self.session()?;
        match self.guarded(&session, &work) {
            Err(error) if matches!(session.device().loss(), Some(DeviceError::Lost { .. })) => {
                tracing::warn!(model = %self.name, %error, "running once more");
                self.guarded(&*self.session()?, &work)
            }
            done => done,
        }
    }

    fn guarded<T>(
        &self,
        session: &Session,
        work: impl Fn(&Session) -> Result<T, RunError>,
    ) -> Result<T, InferenceError> {
        guard(&self.name, &self.device, || {
            work(session).map_err(|error| run_error(&self.name, &self.device, &error))
        })
    }

    /// The session as it is.
    fn seen(&self) -> Arc<Session> {
        Arc::clone(&self.session.lock().unwrap_or_else(PoisonError::into_inner))
    }
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
    /// that nobody asked for says nothing about other sizes, unless a kernel is missing, the device
    /// is gone or has no memory left.
    fn warm_up(&self) -> Result<(), InferenceError> {
        let Some(shapes) = nominal_shapes(&self.signature) else { return Ok(()) };
        match self.with_session(|session| session.warm_up(&shapes)) {
            Err(
                error @ (InferenceError::Unsupported { .. }
                | InferenceError::Panicked { .. }
                | InferenceError::OutOfMemory { .. }
                | InferenceError::DeviceLost { .. }
                | InferenceError::DeviceGone { .. }),
            ) => Err(error),
            Err(error) => {
                tracing::debug!(model = %self.name, %error, "not warmed up");
                Ok(())
            }
            Ok(()) => {
                let shapes = self.signature.inputs.iter().map(|spec| &shapes[&spec.name]);
                self.rows.judge(&self.model, &self.signature, shapes);
                let SessionStats { planned, loaded, .. } = self.seen().stats();
                tracing::debug!(model = %self.name, planned, loaded, "warmed up");
                trim();
                Ok(())
            }
        }
    }

    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let inputs = self.checked(inputs)?;
        let outputs = self.with_session(|session| session.run(&inputs))?;
        self.rows.judge(&self.model, &self.signature, inputs.iter().map(|(_, x)| x.shape()));
        Ok(outputs)
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
        let outputs = self.with_session(|session| session.run_values(&inputs, keep_bytes_min))?;
        self.rows.judge(&self.model, &self.signature, inputs.iter().map(|(_, x)| x.shape()));
        Ok(outputs)
    }

    fn keep_always(&mut self, outputs: BTreeSet<String>) {
        self.keeps = outputs;
        let device = Arc::clone(self.seen().device());
        self.session = Mutex::new(Arc::new(self.session_on(device)));
    }

    fn rows_are_independent(&self) -> Option<bool> {
        self.rows.known()
    }

    fn padded(&self, size: usize) -> usize {
        bucket(size)
    }

    fn footprint(&self) -> Footprint {
        let session = self.seen();
        if session.device().is_lost() {
            return Footprint::default();
        }
        let stats = session.stats();
        Footprint {
            weight_bytes: stats.weight_bytes,
            arena_bytes: stats.arena_bytes,
            staging_bytes: stats.staging_bytes,
            kept_bytes: stats.kept_bytes,
            host_bytes: self.model.host_bytes(),
            peak_bytes: stats.peak_bytes,
        }
    }

    fn dispatches(&self, shapes: &[(String, Shape)]) -> Result<Option<usize>, InferenceError> {
        let shapes: BTreeMap<String, Shape> = shapes.iter().cloned().collect();
        self.with_session(|session| match session.plan_for(&shapes) {
            Ok(plan) => Ok(Some(plan.dispatches)),
            // Those of the last run, where there was one.
            Err(RunError::ValueNeeded { .. }) => {
                Ok(Some(session.stats().dispatches).filter(|&count| count > 0))
            }
            Err(error) => Err(error),
        })
    }

    fn settle(&self) -> Vec<Tuned> {
        self.seen().settle()
    }

    fn profile(
        &self,
        inputs: &[(String, Tensor)],
        runs: u32,
    ) -> Result<Option<Profile>, InferenceError> {
        let inputs = self.checked(inputs)?;
        self.with_session(|session| session.profile(&inputs, runs).map(Some))
    }
}

#[cfg(test)]
mod tests {
    mod faults;

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
    use crate::{Inference, InferenceMetrics, ModelPolicy};

    const FLOAT: u8 = 1;
    const INT64: u8 = 7;

    /// A field of a protobuf message.
    fn field(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(body.len()).unwrap()], body].concat()
    }

    /// An input (0x5a) or output (0x62) of a graph, of any number of rows, `dims` behind them.
    fn port(tag: u8, name: &[u8], dtype: u8, dims: &[u8]) -> Vec<u8> {
        let rows = field(0x0a, &field(0x12, b"n"));
        let dims = dims.iter().map(|&size| field(0x0a, &[0x08, size]));
        let shape = field(0x12, &[rows, dims.collect::<Vec<_>>().concat()].concat());
        let kind = field(0x0a, &[&[0x08, dtype], shape.as_slice()].concat());
        field(tag, &[field(0x0a, name), field(0x12, &kind)].concat())
    }

    /// An ONNX file of one node: from `x` to `y`, each of any number of rows, `dims` behind them.
    /// `table` is what else is in its graph.
    fn onnx(op: &str, inputs: &[&str], [from, to]: [u8; 2], dims: &[u8], table: &[u8]) -> Bytes {
        let inputs: Vec<_> = inputs.iter().map(|name| field(0x0a, name.as_bytes())).collect();
        let node = [inputs.concat(), field(0x12, b"y"), field(0x22, op.as_bytes())].concat();
        let ports = [port(0x5a, b"x", from, dims), port(0x62, b"y", to, dims)];
        let graph = [field(0x0a, &node), field(0x12, b"g"), table.to_vec(), ports.concat()];
        let model = [vec![0x08, 8], field(0x42, &[0x10, 13]), field(0x3a, &graph.concat())];
        model.concat().into()
    }

    /// `y = x + x`, over two floats a row.
    fn double() -> Bytes {
        onnx("Add", &["x", "x"], [FLOAT; 2], &[2], &[])
    }

    /// An adapter, which `GW_REQUIRE_GPU=1` says there is.
    fn opened() -> Option<Arc<Device>> {
        let opened = Device::open_unmapped(&AdapterSelect::Any);
        let required = std::env::var("GW_REQUIRE_GPU").is_ok_and(|value| value == "1");
        assert!(opened.is_ok() || !required, "GW_REQUIRE_GPU is 1: {:?}", opened.err());
        opened.ok()
    }

    /// A GPU that keeps what is kept in memory of its own, as hardware does.
    fn gpu() -> Option<Arc<Gpu>> {
        let device = opened()?;
        let config = InferenceConfig { gpu_tune: Duration::ZERO, ..InferenceConfig::default() };
        let open = Box::new(|| Device::open_unmapped(&AdapterSelect::Any));
        Some(Arc::new(Gpu::opened(device, open, &config)))
    }

    /// A model behind its queue, which keeps outputs of 16 bytes.
    fn served(gpu: &Arc<Gpu>, file: &Bytes) -> crate::Model {
        served_as(gpu, file, ModelPolicy::default())
    }

    fn served_as(gpu: &Arc<Gpu>, file: &Bytes, policy: ModelPolicy) -> crate::Model {
        let (run_time, wait_max) = (Duration::from_hours(1), Duration::MAX);
        let queue = QueueLimits { max: 10, run_time, wait_max };
        let limits = Limits { queue, batch_max: 8, keep_bytes_min: 16, keep_alive: None, nice: 0 };
        let metrics = InferenceMetrics::register(&mut Registry::default());
        let backend: Arc<dyn Backend> = Arc::<Gpu>::clone(gpu);
        let tenure = Tenure::of("m", file, limits, &metrics, backend);
        let slot = Slot::new(Tenure { policy, ..tenure });
        slot.ready_blocking().unwrap();
        crate::Model::new("m", slot, None, &metrics)
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
        let cpu =
            Cpu::new(&InferenceConfig::default()).load("m", ModelSource::Bytes(&double())).unwrap();
        let outputs = cpu.run_values(&inputs, Some(0)).unwrap();
        assert_eq!(outputs[0].1.host().unwrap().to_vec::<f32>().unwrap(), times(4.0));
    }

    #[tokio::test]
    async fn what_nobody_keeps_any_more_is_not_counted_any_more() {
        let Some(gpu) = gpu() else { return };
        let model = served(&gpu, &double());
        let x = || Tensor::from_slice([2, 2], &[1f32; 4]).unwrap();
        answered(ask(&model, x()).await);
        let y = answered(ask(&model, x()).await);
        assert!(matches!(&y, Value::Device(_)), "{y:?}");
        // The worker tells what the model holds after it has answered.
        while model.footprint().kept_bytes == 0 {
            tokio::task::yield_now().await;
        }
        drop(y);
        // The worker may hold it a little longer than whom it answered.
        let patience = Instant::now() + Duration::from_secs(10);
        while model.footprint().kept_bytes > 0 && Instant::now() < patience {
            tokio::task::yield_now().await;
        }
        assert_eq!(model.footprint().kept_bytes, 0, "and without another run");
    }

    #[tokio::test]
    async fn a_state_begins_with_zeros_and_stays_on_the_gpu_however_small() {
        let Some(gpu) = gpu() else { return };
        // `y = h + x`, and each `y` is the next `h`.
        let file = onnx("Add", &["h", "x"], [FLOAT; 2], &[2], &port(0x5a, b"h", FLOAT, &[2]));
        let state = BTreeMap::from([("y".to_owned(), "h".to_owned())]);
        let model = served_as(&gpu, &file, ModelPolicy { state, ..ModelPolicy::default() });
        let x = |x: f32| ("x".to_owned(), Tensor::from_slice([1, 2], &[x, -x]).unwrap().into());
        let terms = || crate::Terms::until(Instant::now() + Duration::from_mins(1));
        let mut y = answered(model.infer_kept(vec![x(1.0)], terms()).await);
        for (step, sum) in [(2.0, 3.0), (4.0, 7.0)] {
            assert!(matches!(&y, Value::Device(_)), "8 bytes stay: {y:?}");
            y = answered(model.infer_kept(vec![x(step), ("h".to_owned(), y)], terms()).await);
            assert_eq!(floats(y.clone()), [sum, -sum]);
        }
        let Value::Host(x) = x(5.0).1 else { panic!("it was made here") };
        let answer = model.infer_for(vec![("x".to_owned(), x)], terms()).await.unwrap();
        assert_eq!(answer.outputs[0].1.to_vec::<f32>().unwrap(), [5.0, -5.0], "a new beginning");
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
        assert_eq!(lookup.footprint().host_bytes, 12, "the file's table is the device's too");
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
