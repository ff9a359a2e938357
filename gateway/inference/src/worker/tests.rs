//! Time is controlled by a model whose runs wait for permission; what it computes is real.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use gw_artifact::Digest;
use gw_tensor::{Shape, Tensor};
use prometheus_client::registry::Registry;

use super::*;
use crate::backend::open_backend;
use crate::metrics::Outcome;
use crate::models::{Slot, Tenure};
use crate::queue::QueueLimits;
use crate::signature::Dim;
use crate::{
    DeviceChoice, Footprint, InferenceConfig, InferenceMetrics, InputProblem, Model, ModelPolicy,
    Signature, TensorSpec,
};

/// Doubles its input, and fails on any run that holds this value.
const POISON: f32 = 13.0;
/// Panics on any run that holds this value.
const BOMB: f32 = 666.0;

/// A model of one input `x` and one output `y`, both `f32 [batch, width]`.
struct Doubler {
    signature: Signature,
    /// Told how many rows each run has, when it starts.
    started: Sender<usize>,
    /// Told from how many bytes on each run is to keep its outputs.
    keeps: Sender<Option<u64>>,
    /// One permission per run.
    permitted: Mutex<Receiver<()>>,
    /// Answers with this many rows, whatever came in.
    fixed_rows: Option<usize>,
    /// Wants batches of 1, 2, 4, 8 … rows.
    pads: bool,
    joining_is_measured: bool,
}

impl LoadedModel for Doubler {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn name(&self) -> &'static str {
        "doubler"
    }

    fn device(&self) -> &'static str {
        "test"
    }

    fn run_values(
        &self,
        inputs: &[(String, Value)],
        keep_bytes_min: Option<u64>,
    ) -> Result<Vec<(String, Value)>, InferenceError> {
        self.keeps.send(keep_bytes_min).unwrap();
        let inputs = [("x".to_owned(), inputs[0].1.host().unwrap().clone())];
        Ok(self.run(&inputs)?.into_iter().map(|(name, y)| (name, y.into())).collect())
    }

    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let x = &inputs[0].1;
        self.started.send(x.shape()[0]).unwrap();
        self.permitted.lock().unwrap().recv().unwrap();
        let values = x.to_vec::<f32>().unwrap();
        assert!(!values.contains(&BOMB), "a bomb in the batch");
        if values.contains(&POISON) {
            let (model, device) = ("doubler".to_owned(), "test".to_owned());
            return Err(InferenceError::Run { model, device, reason: "poisoned".to_owned() });
        }
        let doubled: Vec<f32> = values.iter().map(|value| value * 2.0).collect();
        let mut y = Tensor::from_slice(x.shape().dims(), &doubled).unwrap();
        if let Some(rows) = self.fixed_rows {
            let sum: f32 = doubled.iter().sum();
            y = Tensor::from_slice([rows, 1], &vec![sum; rows]).unwrap();
        }
        Ok(vec![("y".to_owned(), y)])
    }

    fn rows_are_independent(&self) -> Option<bool> {
        Some(true)
    }

    fn padded(&self, size: usize) -> usize {
        if self.pads { size.next_power_of_two() } else { size }
    }

    fn joining_is_measured(&self) -> bool {
        self.joining_is_measured
    }

    fn footprint(&self) -> Footprint {
        Footprint { weight_bytes: 100, arena_bytes: 20, peak_bytes: 120, ..Footprint::default() }
    }

    fn dispatches(&self, _: &[(String, Shape)]) -> Result<Option<usize>, InferenceError> {
        Ok(None)
    }
}

/// A doubler behind its queue, with the levers that control its device.
struct Rig {
    model: Arc<Model>,
    core: Arc<Core>,
    started: Receiver<usize>,
    keeps: Receiver<Option<u64>>,
    permit: Sender<()>,
    registry: Registry,
}

#[derive(Clone)]
struct Setup {
    limits: Limits,
    fixed_rows: Option<usize>,
    pads: bool,
    joining_is_measured: bool,
    lane: Arc<Lane>,
    workers: usize,
}

impl Default for Setup {
    fn default() -> Self {
        let (queue_max, batch_max, keep_bytes_min) = (100, 8, 1000);
        let run_time = Duration::from_hours(1);
        let queue = QueueLimits { max: queue_max, run_time, wait_max: Duration::MAX };
        let limits = Limits { queue, batch_max, keep_bytes_min, keep_alive: None, nice: 0 };
        let (fixed_rows, joining_is_measured, lane) = (None, false, Arc::new(Lane::of(1)));
        Self { limits, fixed_rows, pads: false, joining_is_measured, lane, workers: 1 }
    }
}

impl Setup {
    fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut setup = Self::default();
        change(&mut setup.limits);
        setup
    }

    /// Every row takes too long: what is measured once is cut to single rows.
    fn slow() -> Self {
        Self::with(|limits| limits.queue.run_time = Duration::ZERO)
    }
}

/// Nobody wants to know.
struct Nowhere;

impl Home for Nowhere {}

impl Rig {
    fn new(setup: Setup) -> Self {
        let (started_tx, started) = channel();
        let (permit, permitted) = channel();
        let (keeps_tx, keeps) = channel();
        let batch = || Dim::Symbol("batch".to_owned());
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            dtype: gw_tensor::DType::F32,
            dims: Some(vec![batch(), Dim::Unknown]),
            entries: None,
        };
        let doubler = Doubler {
            signature: Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] },
            started: started_tx,
            keeps: keeps_tx,
            permitted: Mutex::new(permitted),
            fixed_rows: setup.fixed_rows,
            pads: setup.pads,
            joining_is_measured: setup.joining_is_measured,
        };
        let mut registry = Registry::default();
        let metrics = InferenceMetrics::register(&mut registry);
        let core = Core::start(Start {
            name: "doubler",
            digest: Digest::of(b"doubler"),
            model: Box::new(doubler),
            lane: setup.lane,
            workers: setup.workers,
            limits: setup.limits,
            policy: &ModelPolicy::default(),
            metrics: metrics.model("doubler", "test"),
            home: Box::new(Nowhere),
        });
        let core = Arc::new(core.unwrap());
        let cpu = open_backend(&DeviceChoice::Cpu, &InferenceConfig::default()).unwrap();
        let tenure = Tenure::of("doubler", &Bytes::new(), setup.limits, &metrics, cpu);
        let slot = Slot::of(tenure, Arc::clone(&core));
        let model = Arc::new(Model::new("doubler", slot, None, &metrics));
        Self { model, core, started, keeps, permit, registry }
    }

    /// Queues a request of `[rows, width]`, every element `value`.
    async fn ask(&self, rows: usize, width: usize, value: f32) -> Asked {
        self.ask_until(rows, width, value, far_future()).await
    }

    async fn ask_until(&self, rows: usize, width: usize, value: f32, deadline: Instant) -> Asked {
        let x = Tensor::from_slice([rows, width], &vec![value; rows * width]).unwrap();
        self.ask_for(x, deadline).await
    }

    async fn ask_for(&self, x: Tensor, deadline: Instant) -> Asked {
        let model = Arc::clone(&self.model);
        let inputs = vec![("x".to_owned(), x)];
        queued(Box::pin(async move { model.infer(inputs, deadline).await })).await
    }

    /// Queues a request of `[rows, 1]` whose answer may stay on the device.
    async fn ask_kept(&self, rows: usize) -> Asked<Value> {
        let model = Arc::clone(&self.model);
        let x = Tensor::from_slice([rows, 1], &vec![1f32; rows]).unwrap();
        let inputs = vec![("x".to_owned(), x.into())];
        queued(Box::pin(async move {
            model.infer_kept(inputs, crate::Terms::until(far_future())).await
        }))
        .await
    }

    /// Waits for the next run and tells its rows.
    fn run_starts(&self) -> usize {
        self.started.recv().unwrap()
    }

    fn let_it_run(&self) {
        self.permit.send(()).unwrap();
    }

    /// The sum of a metric over all labels.
    fn metric(&self, name: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let series = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

type Asked<T = Tensor> = Pin<Box<dyn Future<Output = Result<Inference<T>, InferenceError>> + Send>>;

/// One poll puts it in the queue; an answer that is there at once is kept.
async fn queued<T: Send + 'static>(mut asked: Asked<T>) -> Asked<T> {
    let early = poll_fn(|ctx| Poll::Ready(asked.as_mut().poll(ctx))).await;
    if let Poll::Ready(answer) = early { Box::pin(async { answer }) } else { asked }
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_hours(1)
}

fn values(answer: &Inference) -> Vec<f32> {
    answer.outputs[0].1.to_vec().unwrap()
}

#[tokio::test]
async fn what_waits_while_the_device_is_busy_shares_the_next_run() {
    let rig = Rig::new(Setup::default());
    let first = rig.ask(1, 2, 1.0).await;
    assert_eq!(rig.run_starts(), 1);
    let (second, third) = (rig.ask(2, 2, 2.0).await, rig.ask(1, 2, 3.0).await);
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 3);
    rig.let_it_run();

    assert_eq!(values(&first.await.unwrap()), [2.0, 2.0]);
    let second = second.await.unwrap();
    assert_eq!(values(&second), [4.0; 4]);
    assert_eq!((second.batch, &*second.device), (3, "test"));
    assert_eq!(second.outputs[0].1.shape().dims(), [2, 2]);
    assert_eq!(values(&third.await.unwrap()), [6.0, 6.0]);
}

#[tokio::test]
async fn a_run_joins_at_most_batch_max_rows_and_keeps_the_order() {
    let rig = Rig::new(Setup::default());
    let busy = rig.ask(1, 1, 0.0).await;
    assert_eq!(rig.run_starts(), 1);
    let mut asked = Vec::new();
    for rows in [5, 4, 3, 20] {
        asked.push(rig.ask(rows, 1, 1.0).await);
    }
    // Five and three fit in eight rows, four waits, and twenty runs alone.
    for rows in [8, 4, 20] {
        rig.let_it_run();
        assert_eq!(rig.run_starts(), rows);
    }
    rig.let_it_run();
    busy.await.unwrap();
    for (asked, rows) in asked.into_iter().zip([5, 4, 3, 20]) {
        assert_eq!(values(&asked.await.unwrap()), vec![2.0; rows]);
    }
}

#[tokio::test]
async fn where_joining_is_measured_a_few_rows_are_tried_first() {
    let rig = Rig::new(Setup { joining_is_measured: true, ..Setup::default() });
    let busy = rig.ask(1, 1, 0.0).await;
    assert_eq!(rig.run_starts(), 1);
    let mut asked = Vec::new();
    for _ in 0..5 {
        asked.push(rig.ask(1, 1, 1.0).await);
    }
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 2);
    for _ in 0..5 {
        rig.let_it_run();
    }
    busy.await.unwrap();
    for asked in asked {
        assert_eq!(values(&asked.await.unwrap()), [2.0]);
    }
}

#[tokio::test]
async fn requests_of_different_widths_never_share_a_run() {
    let rig = Rig::new(Setup::default());
    let busy = rig.ask(1, 1, 0.0).await;
    assert_eq!(rig.run_starts(), 1);
    let (narrow, wide, narrow_too) =
        (rig.ask(1, 1, 1.0).await, rig.ask(1, 3, 2.0).await, rig.ask(1, 1, 3.0).await);
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 2);
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 1);
    rig.let_it_run();
    busy.await.unwrap();
    assert_eq!(values(&narrow.await.unwrap()), [2.0]);
    assert_eq!(values(&wide.await.unwrap()), [4.0; 3]);
    assert_eq!(values(&narrow_too.await.unwrap()), [6.0]);
}

#[tokio::test]
async fn only_the_guilty_request_of_a_batch_fails() {
    let rig = Rig::new(Setup::default());
    let busy = rig.ask(1, 1, 0.0).await;
    assert_eq!(rig.run_starts(), 1);
    let (good, guilty, good_too) =
        (rig.ask(1, 1, 1.0).await, rig.ask(1, 1, POISON).await, rig.ask(1, 1, 2.0).await);
    // The busy run, the batch that fails, then each of the three alone.
    for rows in [3, 1, 1, 1] {
        rig.let_it_run();
        assert_eq!(rig.run_starts(), rows);
    }
    rig.let_it_run();
    busy.await.unwrap();
    assert_eq!(values(&good.await.unwrap()), [2.0]);
    let error = guilty.await.unwrap_err();
    assert_eq!(error.to_string(), "model doubler failed on test: poisoned");
    assert_eq!(values(&good_too.await.unwrap()), [4.0]);
}

#[tokio::test]
async fn outputs_that_do_not_follow_the_rows_end_batching_and_stay_right() {
    let rig = Rig::new(Setup { fixed_rows: Some(1), ..Setup::default() });
    let busy = rig.ask(1, 1, 0.0).await;
    assert_eq!(rig.run_starts(), 1);
    let (one, two) = (rig.ask(1, 1, 1.0).await, rig.ask(1, 1, 2.0).await);
    for rows in [2, 1, 1] {
        rig.let_it_run();
        assert_eq!(rig.run_starts(), rows);
    }
    let (three, four) = (rig.ask(1, 1, 3.0).await, rig.ask(1, 1, 4.0).await);
    for rows in [1, 1] {
        rig.let_it_run();
        assert_eq!(rig.run_starts(), rows);
    }
    rig.let_it_run();
    busy.await.unwrap();
    for (asked, sum) in [(one, 2.0), (two, 4.0), (three, 6.0), (four, 8.0)] {
        let answer = asked.await.unwrap();
        assert_eq!(values(&answer), [sum]);
        assert_eq!(answer.batch, 1);
    }
}

#[tokio::test]
async fn a_run_is_padded_to_the_size_that_the_device_wants() {
    let rig = Rig::new(Setup { pads: true, ..Setup::default() });
    let alone = rig.ask(3, 2, 1.0).await;
    assert_eq!(rig.run_starts(), 4);
    let (two, three) = (rig.ask(2, 2, 2.0).await, rig.ask(3, 2, 3.0).await);
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 8);
    rig.let_it_run();
    assert_eq!(values(&alone.await.unwrap()), [2.0; 6]);
    assert_eq!(values(&two.await.unwrap()), [4.0; 4]);
    let three = three.await.unwrap();
    assert_eq!((values(&three), three.batch), (vec![6.0; 6], 5));
}

#[tokio::test]
async fn a_full_queue_refuses_one_more() {
    let rig = Rig::new(Setup::with(|limits| limits.queue.max = 2));
    let busy = rig.ask(1, 1, 0.0).await;
    assert_eq!(rig.run_starts(), 1);
    let waiting = (rig.ask(1, 1, 1.0).await, rig.ask(1, 1, 2.0).await);
    let refused = rig.ask(1, 1, 3.0).await.await.unwrap_err();
    assert_eq!(refused, InferenceError::QueueFull { model: "doubler".to_owned(), queue_max: 2 });
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 2);
    rig.let_it_run();
    busy.await.unwrap();
    assert_eq!(values(&waiting.0.await.unwrap()), [2.0]);
    assert_eq!(values(&waiting.1.await.unwrap()), [4.0]);
}

#[tokio::test]
async fn a_caller_that_left_makes_room_in_a_full_queue() {
    let rig = Rig::new(Setup::with(|limits| limits.queue.max = 1));
    let busy = rig.ask(1, 1, 0.0).await;
    assert_eq!(rig.run_starts(), 1);
    drop(rig.ask(1, 1, 1.0).await);
    let next = rig.ask(3, 1, 2.0).await;
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 3);
    rig.let_it_run();
    busy.await.unwrap();
    assert_eq!(values(&next.await.unwrap()), [4.0; 3]);
}

#[tokio::test]
async fn expired_request_never_reaches_the_device() {
    let rig = Rig::new(Setup::default());
    let busy = rig.ask(1, 1, 0.0).await;
    assert_eq!(rig.run_starts(), 1);
    let soon = Instant::now() + Duration::from_millis(5);
    let expired = rig.ask_until(4, 1, 1.0, soon).await.await.unwrap_err();
    let InferenceError::DeadlinePassed { queue, compute, .. } = expired else {
        panic!("{expired}");
    };
    assert!(queue >= Duration::from_millis(5) && compute.is_zero(), "{expired}");
    let in_time = rig.ask(2, 1, 2.0).await;
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 2);
    rig.let_it_run();
    busy.await.unwrap();
    assert_eq!(values(&in_time.await.unwrap()), [4.0; 2]);
}

#[tokio::test]
async fn a_deadline_ends_the_wait_for_a_run_that_takes_too_long() {
    let rig = Rig::new(Setup::default());
    // Long enough that a busy machine queues the request in time.
    let soon = Instant::now() + Duration::from_secs(1);
    let expired = rig.ask_until(1, 1, 1.0, soon).await;
    assert_eq!(rig.run_starts(), 1);
    let expired = expired.await.unwrap_err();
    assert!(
        matches!(expired, InferenceError::DeadlinePassed { queue, compute, .. } if compute > queue),
        "{expired}"
    );
    rig.let_it_run();
}

/// `[rows, 2]`, every element another and none that fails.
fn distinct(rows: usize) -> (Tensor, Vec<f32>) {
    let values: Vec<f32> = (0..2 * rows).map(|n| n as f32 + 100.0).collect();
    let doubled = values.iter().map(|value| value * 2.0).collect();
    (Tensor::from_slice([rows, 2], &values).unwrap(), doubled)
}

#[tokio::test]
async fn a_long_request_runs_in_parts_and_its_answer_is_that_of_one_run() {
    let rig = Rig::new(Setup::slow());
    let (x, expected) = distinct(7);
    let asked = rig.ask_for(x, far_future()).await;
    for rows in [UNMEASURED_ROWS, 1, 1, 1] {
        assert_eq!(rig.run_starts(), rows);
        rig.let_it_run();
    }
    let answer = asked.await.unwrap();
    assert_eq!(answer.outputs[0].0, "y");
    assert_eq!(answer.outputs[0].1.shape().dims(), [7, 2]);
    assert_eq!(values(&answer), expected);
}

#[tokio::test]
async fn a_neighbour_waits_for_one_part_of_a_long_request() {
    let rig = Rig::new(Setup::slow());
    let (x, expected) = distinct(9);
    let long = rig.ask_for(x, far_future()).await;
    assert_eq!(rig.run_starts(), UNMEASURED_ROWS);
    let (one, two) = (rig.ask(1, 1, 1.0).await, rig.ask(1, 3, 2.0).await);
    rig.let_it_run();
    for (neighbour, answer) in [(one, vec![2.0]), (two, vec![4.0; 3])] {
        assert_eq!(rig.run_starts(), 1);
        rig.let_it_run();
        assert_eq!(values(&neighbour.await.unwrap()), answer);
    }
    for _ in UNMEASURED_ROWS..9 {
        assert_eq!(rig.run_starts(), 1);
        rig.let_it_run();
    }
    assert_eq!(values(&long.await.unwrap()), expected);
}

#[tokio::test]
async fn a_long_request_that_nobody_waits_for_ends_after_its_part() {
    let rig = Rig::new(Setup::slow());
    let long = rig.ask(60, 2, 1.0).await;
    assert_eq!(rig.run_starts(), UNMEASURED_ROWS);
    drop(long);
    let next = rig.ask(1, 1, 3.0).await;
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 1);
    rig.let_it_run();
    assert_eq!(values(&next.await.unwrap()), [6.0]);
    rig.core.close();
    rig.core.finished().await;
    assert!(rig.started.try_recv().is_err(), "not one more row ran");
}

#[tokio::test]
async fn the_parts_of_a_request_whose_client_leaves_between_them_were_in_vain() {
    let rig = Rig::new(Setup::slow());
    let long = rig.ask(60, 2, 1.0).await;
    assert_eq!(rig.run_starts(), UNMEASURED_ROWS);
    let next = rig.ask(1, 1, 3.0).await;
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 1, "of the other, between the parts");
    assert_eq!(rig.metric("gw_usage_wasted_seconds_total"), 0.0);
    drop(long);
    rig.let_it_run();
    next.await.unwrap();
    rig.core.close();
    rig.core.finished().await;
    let (wasted, all) =
        (rig.metric("gw_usage_wasted_seconds_total"), rig.metric("gw_usage_device_seconds_total"));
    assert!(0.0 < wasted && wasted < all, "{wasted} of {all}");
}

#[tokio::test]
async fn rows_of_a_run_that_failed_and_was_repeated_count_once() {
    let rig = Rig::new(Setup::default());
    let first = rig.ask(1, 1, 1.0).await;
    assert_eq!(rig.run_starts(), 1);
    let (good, bad) = (rig.ask(1, 1, 2.0).await, rig.ask(1, 1, POISON).await);
    for rows in [2, 1, 1] {
        rig.let_it_run();
        assert_eq!(rig.run_starts(), rows);
    }
    rig.let_it_run();
    assert!(first.await.is_ok() && good.await.is_ok() && bad.await.is_err());
    assert_eq!(rig.metric("gw_usage_items_total"), 2.0);
    assert_eq!(rig.metric("gw_usage_batch_rows_count"), 2.0);
}

#[tokio::test]
async fn small_requests_share_a_run_with_a_part_of_a_long_one() {
    let lane = Arc::new(Lane::of(1));
    let rig = Rig::new(Setup { lane: Arc::clone(&lane), ..Setup::default() });
    let held = lane.acquire(rig.core.queue());
    let (x, expected) = distinct(12);
    let long = rig.ask_for(x, far_future()).await;
    let (two, other, one) =
        (rig.ask(2, 2, 1.0).await, rig.ask(1, 5, 3.0).await, rig.ask(1, 2, 2.0).await);
    drop(held);
    // What is left of the long one is measured by then, and short.
    for rows in [UNMEASURED_ROWS + 2 + 1, 1, 12 - UNMEASURED_ROWS] {
        assert_eq!(rig.run_starts(), rows);
        rig.let_it_run();
    }
    assert_eq!(values(&two.await.unwrap()), [2.0; 4]);
    assert_eq!(values(&one.await.unwrap()), [4.0; 2]);
    assert_eq!(values(&other.await.unwrap()), [6.0; 5]);
    assert_eq!(values(&long.await.unwrap()), expected);
}

#[tokio::test]
async fn a_long_request_fills_what_is_left_of_a_run() {
    let lane = Arc::new(Lane::of(1));
    let rig = Rig::new(Setup { lane: Arc::clone(&lane), ..Setup::default() });
    let held = lane.acquire(rig.core.queue());
    let one = rig.ask(1, 2, 1.0).await;
    let (x, expected) = distinct(12);
    let long = rig.ask_for(x, far_future()).await;
    drop(held);
    for rows in [8, 12 - 7] {
        assert_eq!(rig.run_starts(), rows);
        rig.let_it_run();
    }
    assert_eq!(values(&one.await.unwrap()), [2.0; 2]);
    assert_eq!(values(&long.await.unwrap()), expected);
}

#[tokio::test]
async fn a_part_has_as_many_rows_as_the_device_wants() {
    let lane = Arc::new(Lane::of(1));
    let pads = Setup { pads: true, lane: Arc::clone(&lane), ..Setup::default() };
    let rig = Rig::new(pads);
    let held = lane.acquire(rig.core.queue());
    let long = rig.ask(5, 2, 1.0).await;
    drop(held);
    for rows in [4, 1] {
        assert_eq!(rig.run_starts(), rows);
        rig.let_it_run();
    }
    assert_eq!(values(&long.await.unwrap()), [2.0; 10]);
}

#[tokio::test]
async fn parts_that_do_not_follow_the_rows_are_computed_anew_in_one_run() {
    let rig = Rig::new(Setup { fixed_rows: Some(1), ..Setup::slow() });
    let asked = rig.ask(6, 1, 1.0).await;
    for rows in [UNMEASURED_ROWS, 6] {
        assert_eq!(rig.run_starts(), rows);
        rig.let_it_run();
    }
    assert_eq!(values(&asked.await.unwrap()), [12.0]);
}

#[tokio::test]
async fn an_error_in_one_part_is_the_answer() {
    let rig = Rig::new(Setup::slow());
    let x = Tensor::from_slice([6, 1], &[1.0, 1.0, 1.0, 1.0, 1.0, POISON]).unwrap();
    let asked = rig.ask_for(x, far_future()).await;
    for rows in [UNMEASURED_ROWS, 1, 1] {
        assert_eq!(rig.run_starts(), rows);
        rig.let_it_run();
    }
    let error = asked.await.unwrap_err();
    assert_eq!(error.to_string(), "model doubler failed on test: poisoned");
}

#[tokio::test]
async fn withdrawn_request_never_reaches_the_device() {
    let rig = Rig::new(Setup::default());
    let busy = rig.ask(1, 1, 0.0).await;
    assert_eq!(rig.run_starts(), 1);
    drop(rig.ask(4, 1, 1.0).await);
    let stays = rig.ask(2, 1, 2.0).await;
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 2);
    rig.let_it_run();
    busy.await.unwrap();
    stays.await.unwrap();
    assert_eq!(rig.model.requests().count(Outcome::Cancelled), 1);
    assert_eq!(rig.model.requests().count(Outcome::Ok), 2);
}

#[tokio::test]
async fn a_bad_request_is_refused_before_it_can_join() {
    let rig = Rig::new(Setup::default());
    let inputs = vec![("z".to_owned(), Tensor::from_slice([1, 1], &[1.0f32]).unwrap())];
    let error = rig.model.infer(inputs, far_future()).await.unwrap_err();
    let problem = InputProblem::Unknown { name: "z".to_owned(), expected: vec!["x".to_owned()] };
    let problem = Box::new(problem);
    assert_eq!(error, InferenceError::BadInput { model: "doubler".to_owned(), problem });
    assert_eq!(rig.model.requests().count(Outcome::BadInput), 1);
}

#[tokio::test]
async fn closing_answers_those_that_wait_and_refuses_the_rest() {
    let rig = Rig::new(Setup::default());
    let busy = rig.ask(1, 1, 1.0).await;
    assert_eq!(rig.run_starts(), 1);
    let waiting = rig.ask(1, 1, 2.0).await;
    assert_eq!(rig.core.footprint().weight_bytes, 100);
    rig.core.close();
    let late = rig.ask(1, 1, 3.0).await.await.unwrap_err();
    assert_eq!(late, InferenceError::Unloading { model: "doubler".to_owned() });
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 1);
    rig.let_it_run();
    rig.core.finished().await;
    assert_eq!(values(&busy.await.unwrap()), [2.0]);
    assert_eq!(values(&waiting.await.unwrap()), [4.0]);
    assert_eq!(rig.core.footprint(), Footprint::default());
}

#[tokio::test]
async fn a_worker_that_dies_leaves_nobody_waiting() {
    let rig = Rig::new(Setup::default());
    let doomed = rig.ask(1, 1, BOMB).await;
    assert_eq!(rig.run_starts(), 1);
    let waiting = rig.ask(1, 2, 1.0).await;
    rig.let_it_run();
    for asked in [doomed, waiting] {
        assert!(matches!(asked.await, Err(InferenceError::Unloading { .. })));
    }
    rig.core.finished().await;
    assert!(matches!(rig.ask(1, 1, 1.0).await.await, Err(InferenceError::Unloading { .. })));
}

#[tokio::test]
async fn a_device_with_two_slots_does_two_runs_at_once() {
    let side_by_side = Setup { lane: Arc::new(Lane::of(2)), workers: 2, ..Setup::default() };
    let rig = Rig::new(side_by_side);
    // The first is alone and has all of the device; who comes meanwhile waits.
    let alone = rig.ask(1, 1, 1.0).await;
    assert_eq!(rig.run_starts(), 1);
    // Three more: two side by side, each in its own run, for another shape each.
    let others = [rig.ask(1, 2, 2.0).await, rig.ask(1, 3, 3.0).await, rig.ask(1, 4, 4.0).await];
    assert!(rig.started.try_recv().is_err());
    rig.let_it_run();
    assert_eq!((rig.run_starts(), rig.run_starts()), (1, 1));
    for _ in 0..3 {
        rig.let_it_run();
    }
    assert_eq!(values(&alone.await.unwrap()), [2.0]);
    for (n, asked) in others.into_iter().enumerate() {
        let expected = vec![(n + 2) as f32 * 2.0; n + 2];
        assert_eq!(values(&asked.await.unwrap()), expected);
    }
}

#[tokio::test]
async fn models_of_one_device_take_turns() {
    let lane = Arc::new(Lane::of(1));
    let (a, b) = (
        Rig::new(Setup { lane: Arc::clone(&lane), ..Setup::default() }),
        Rig::new(Setup { lane: Arc::clone(&lane), ..Setup::default() }),
    );
    let first = a.ask(1, 1, 1.0).await;
    assert_eq!(a.run_starts(), 1);
    let second = b.ask(1, 1, 2.0).await;
    // Until `a` is done, what comes for `b` joins one batch.
    let third = b.ask(1, 1, 3.0).await;
    assert!(b.started.try_recv().is_err());
    a.let_it_run();
    assert_eq!(b.run_starts(), 2);
    b.let_it_run();
    assert_eq!(values(&first.await.unwrap()), [2.0]);
    assert_eq!(values(&second.await.unwrap()), [4.0]);
    assert_eq!(values(&third.await.unwrap()), [6.0]);
}

#[tokio::test]
async fn outputs_stay_where_everybody_in_the_run_wants_that_and_has_enough_of_them() {
    let rig = Rig::new(Setup::default());
    let busy = rig.ask(1, 1, 0.0).await;
    assert_eq!(rig.run_starts(), 1);
    let (one, three) = (rig.ask_kept(1).await, rig.ask_kept(3).await);
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 4);
    let (kept, read) = (rig.ask_kept(1).await, rig.ask(1, 1, 1.0).await);
    rig.let_it_run();
    assert_eq!(rig.run_starts(), 2);
    rig.let_it_run();
    busy.await.unwrap();
    read.await.unwrap();
    for (asked, rows) in [(one, 1), (three, 3), (kept, 1)] {
        assert_eq!(asked.await.unwrap().outputs[0].1.shape().dims(), [rows, 1]);
    }
    // One row of four must have a thousand bytes.
    assert_eq!(rig.keeps.try_iter().collect::<Vec<_>>(), [None, Some(4000), None]);
}

#[tokio::test]
async fn the_outputs_of_a_request_in_parts_come_to_the_host() {
    let rig = Rig::new(Setup::slow());
    let asked = rig.ask_kept(6).await;
    for rows in [4, 1, 1] {
        assert_eq!(rig.run_starts(), rows);
        rig.let_it_run();
    }
    assert_eq!(
        asked.await.unwrap().outputs[0].1.host().unwrap().to_vec::<f32>().unwrap(),
        [2.0; 6]
    );
    assert_eq!(rig.keeps.try_iter().collect::<Vec<_>>(), [None; 3]);
}
