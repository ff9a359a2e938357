//! A model on a device: weights uploaded once, one prepared plan per set of input shapes.
//!
//! A run of shapes that were seen before plans nothing, compiles nothing and makes no buffer:
//! it writes its inputs into mapped memory, replays a list of dispatches in one pass, and reads
//! the outputs back.
//!
//! - [`error`]: why a run failed, and whose fault it is.
//! - [`interpret`]: the same without a device.
//! - `planning`: where plans come from: the model, or the disk.
//! - `parts`: what a run is asked with, checked and in order.
//! - `plans`: the bounded cache of prepared plans; concurrent first runs plan once.
//! - `prepared`: a plan with its pipelines, bind groups and arenas; tensors on the device.
//! - `weights`: constants on the device, shared by all plans.
//! - [`profile`]: where the time of a run goes.
//! - `staging`: mapped memory on the way in and out.
//! - [`tune`]: which variants of the kernels are the fastest.
//! - `convert`: tensors to device form and back.
//! - `ledger`: who holds how many bytes.

mod convert;
pub mod error;
pub mod interpret;
mod ledger;
mod parts;
mod planning;
mod plans;
mod prepared;
pub mod profile;
mod staging;
pub mod tune;
mod weights;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gw_shaders::kernel::{Caps, Kernel};
use gw_tensor::{Shape, Tensor};

use crate::device::Device;
use crate::error::PlanError;
use crate::model::{Model, PlanOptions, PortSignature, Signature, Stage};
use crate::net::oracle::Answer;
use crate::plan::Plan;
use crate::plan::store::{PlanCache, Stored};
use crate::plan::summary::PlanSummary;
pub use error::RunError;
use ledger::Ledger;
pub use ledger::SessionStats;
use parts::Part;
use planning::{Planning, Shapes};
use plans::Plans;
use prepared::Prepared;
use prepared::value::{self, Given};
pub use prepared::value::{DeviceTensor, Value};
use tune::{Tuned, Tuner, Tuning};
use weights::Weights;

/// How a [`Session`] plans and what it keeps.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// What plans may do.
    pub plan: PlanOptions,
    /// Sets of input shapes that stay prepared; the one that was used longest ago goes first.
    /// Default 32: six batch sizes by five lengths and a few odd ones.
    pub plans_max: usize,
    /// Bytes that all prepared plans may take together for arenas and mapped memory, with the
    /// outputs that stay on the device, which come to the host where there is no room. The plan
    /// that was used longest ago goes first, and inputs that alone need more are refused. A dropped
    /// plan that is still running keeps its memory until it is done. Default 4 GiB: half of what
    /// a common GPU has.
    pub memory_max: u64,
    /// Runs of one plan that may be between upload and readback at once; each has its own
    /// mapped memory, they share the arenas. Default 2: one on the device, one on its way.
    pub in_flight: usize,
    /// Where plans are kept between processes. Default: nowhere, so that every session plans.
    pub cache: Option<Arc<PlanCache>>,
    /// What is known of the device's kernels, and how long they may be measured. Default: nothing,
    /// so that the variants stay those that come first.
    pub tuning: Option<Arc<Tuning>>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        let plan = PlanOptions::default();
        let (plans_max, memory_max, in_flight) = (32, 4 << 30, 2);
        Self { plan, plans_max, memory_max, in_flight, cache: None, tuning: None }
    }
}

/// A part of a run, ready.
#[derive(Debug)]
enum Ready {
    /// The run goes on with the input of this index as a constant.
    Input(usize),
    /// The run goes on with the one output of this plan as a constant.
    Value(Prepared),
    /// The rest of the run.
    Whole(Prepared),
}

/// A model on a device. Any number of threads may run it at once.
pub struct Session {
    device: Arc<Device>,
    signature: Signature,
    planning: Arc<Planning>,
    tuner: Option<Tuner>,
    options: SessionOptions,
    plans: Plans<Part, Ready>,
    weights: Weights,
    ledger: Arc<Ledger>,
    dispatches: AtomicUsize,
    /// Outputs that stay on the device however small they are.
    always_kept: BTreeSet<String>,
}

impl Session {
    /// A session of `model` on `device`. Nothing is planned yet; see [`Session::warm_up`].
    pub fn new(model: Arc<Model>, device: Arc<Device>, options: SessionOptions) -> Self {
        let signature = model.signature().clone();
        let (cache, tuning) = (options.cache.clone(), options.tuning.clone());
        let planning = Planning::of(model, options.plan, cache, tuning);
        Self::staged(signature, planning, device, options)
    }

    /// A session of one plan, which runs with the shapes that it was made for.
    pub fn from_plan(plan: Plan, device: Arc<Device>, options: SessionOptions) -> Self {
        let signature = Signature::of_plan(&plan);
        let shapes: HashMap<String, Shape> =
            plan.inputs.iter().map(|port| (port.name.clone(), port.shape.clone())).collect();
        let planner = move |given: &BTreeMap<String, Shape>, _: &Caps| {
            for (input, given) in given {
                match shapes.get(input) {
                    Some(expected) if expected != given => {
                        return Err(PlanError::InputShape {
                            model: "of a ready plan".to_owned(),
                            input: input.clone(),
                            expected: expected.to_string(),
                            given: given.clone(),
                        });
                    }
                    _ => {}
                }
            }
            Ok(plan.clone())
        };
        Self::with_planner(signature, planner, device, options)
    }

    /// A session whose plans come from `planner`, which gets one shape per input. They are not
    /// kept: nothing names them.
    pub fn with_planner(
        signature: Signature,
        planner: impl Fn(&BTreeMap<String, Shape>, &Caps) -> Result<Plan, PlanError>
        + Send
        + Sync
        + 'static,
        device: Arc<Device>,
        options: SessionOptions,
    ) -> Self {
        let planner = move |shapes: &Shapes, _: &[Answer], caps: &Caps| {
            planner(shapes, caps).map(Stage::Whole)
        };
        Self::staged(signature, Planning::new(planner), device, options)
    }

    fn staged(
        signature: Signature,
        planning: Planning,
        device: Arc<Device>,
        options: SessionOptions,
    ) -> Self {
        let ledger = Arc::new(Ledger::default());
        let planning = Arc::new(planning);
        let tuner = options.tuning.clone().filter(|tuning| !tuning.budget().is_zero());
        let tuner = tuner.map(|tuning| {
            Tuner::new(Arc::clone(&device), signature.clone(), Arc::clone(&planning), tuning)
        });
        Self {
            signature,
            planning,
            tuner,
            plans: Plans::new(options.plans_max),
            weights: Weights::new(Arc::clone(&ledger)),
            dispatches: AtomicUsize::new(0),
            always_kept: BTreeSet::new(),
            device,
            options,
            ledger,
        }
    }

    /// Lets these outputs stay on the device whatever they take there, in runs that keep any: they
    /// are the state of a sequence, which the next run takes from there.
    pub fn keep_always(&mut self, outputs: BTreeSet<String>) {
        self.always_kept = outputs;
    }

    /// What a run takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The device that runs it.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Runs the model once. The outputs come in the model's order.
    ///
    /// # Errors
    /// [`RunError`]; [`RunError::is_caller_fault`] tells bad input from the rest.
    pub fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, RunError> {
        let ordered = self.ordered(inputs)?;
        let outputs =
            self.with_last(&ordered, |prepared| prepared.run(&self.device, &ordered, &[]))?;
        outputs.into_iter().map(|(name, value)| Ok((name, value.into_host()?))).collect()
    }

    /// As [`Session::run`], between runs that hand values on: an input that lies on this device is
    /// copied there, and read back where another device has it or its value decides the plan.
    ///
    /// Outputs that take at least `keep_bytes_min` bytes on the device stay there, in memory of
    /// their own, and are never mapped, as do those of [`Session::keep_always`]; `None` keeps none.
    /// Every output comes to the host where
    /// kernels bind what the CPU maps, and where what is kept would exceed
    /// [`SessionOptions::memory_max`]; so does one of a type that a device computes in a wider one,
    /// as it gets its values when it is read.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_values(
        &self,
        inputs: &[(String, Value)],
        keep_bytes_min: Option<u64>,
    ) -> Result<Vec<(String, Value)>, RunError> {
        let given = inputs.iter().map(|(name, value)| (name, value.dtype(), value));
        let ordered = self.signature.ordered(given)?;
        let read = value::read_foreign(&ordered, &self.device)?;
        let ordered = Given::of(&ordered, &read);
        self.with_last(&ordered, |prepared| {
            let room = self.options.memory_max.saturating_sub(self.ledger.runs());
            let keep = |bytes_min| {
                let bytes = (bytes_min, room);
                prepared.keep(&self.device, &self.ledger, &self.always_kept, bytes)
            };
            let kept = keep_bytes_min.map(keep).unwrap_or_default();
            prepared.run(&self.device, &ordered, &kept)
        })
    }

    fn ordered<'a>(&self, inputs: &'a [(String, Tensor)]) -> Result<Vec<Given<'a>>, RunError> {
        let given = inputs.iter().map(|(name, tensor)| (name, tensor.dtype(), Given::Host(tensor)));
        self.signature.ordered(given)
    }

    /// Waits until the variants of the plans that have run are measured, or the time for that is
    /// spent. It tells which steps of the plan that was tuned last are done another way now.
    pub fn settle(&self) -> Vec<Tuned> {
        self.tuner.as_ref().map(Tuner::settle).unwrap_or_default()
    }

    /// Runs whatever parts come before the last one, which `last` is given.
    fn with_last<T>(
        &self,
        inputs: &[Given<'_>],
        last: impl Fn(&Prepared) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        self.with_room(|| self.to_last(inputs, &last))
    }

    fn to_last<T>(
        &self,
        inputs: &[Given<'_>],
        last: impl Fn(&Prepared) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let mut key = Part::shapes(inputs.iter().map(|input| input.shape()));
        loop {
            let ready = self.prepared(&key)?;
            let answer = match &*ready {
                Ready::Whole(prepared) => {
                    let answer = last(prepared)?;
                    if let Some(tuner) = self.tuner.as_ref().filter(|_| prepared.is_untuned()) {
                        tuner.suggest(key, &ready);
                    }
                    return Ok(answer);
                }
                Ready::Input(index) => Answer::Input(*index, inputs[*index].to_tensor()?),
                Ready::Value(prepared) => {
                    let mut asked = prepared.run(&self.device, inputs, &[])?;
                    Answer::Value(asked.swap_remove(0).1.into_host()?)
                }
            };
            key.push(Part::Known(answer));
        }
    }

    /// Prepares the plan for these shapes, one per input, and makes the driver compile its
    /// kernels now, so that the first run does not wait for it.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn warm_up(&self, shapes: &BTreeMap<String, Shape>) -> Result<(), RunError> {
        self.with_room(|| match &*self.prepared_for(shapes)? {
            Ready::Whole(prepared) | Ready::Value(prepared) => prepared.warm_up(&self.device),
            // The run decides what it needs.
            Ready::Input(_) => Ok(()),
        })
    }

    /// What a run with these shapes does; plans it if it was not planned yet. Of a run that its
    /// own values decide, the part up to the first of them.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn plan_for(&self, shapes: &BTreeMap<String, Shape>) -> Result<Arc<PlanSummary>, RunError> {
        match &*self.prepared_for(shapes)? {
            Ready::Whole(prepared) | Ready::Value(prepared) => Ok(prepared.program().summary),
            Ready::Input(index) => {
                Err(RunError::ValueNeeded { input: self.signature.inputs[*index].name.clone() })
            }
        }
    }

    /// What the session holds.
    pub fn stats(&self) -> SessionStats {
        SessionStats {
            peak_bytes: self.ledger.peak(),
            weight_bytes: self.ledger.weights.bytes(),
            arena_bytes: self.ledger.arenas.bytes(),
            staging_bytes: self.ledger.staging.bytes(),
            kept_bytes: self.ledger.kept.bytes(),
            plans: self.plans.len(),
            dispatches: self.dispatches.load(Ordering::Relaxed),
            planned: self.planning.planned(),
            loaded: self.planning.loaded(),
        }
    }

    fn prepared_for(&self, shapes: &BTreeMap<String, Shape>) -> Result<Arc<Ready>, RunError> {
        let unknown = shapes.keys().find(|name| self.signature.index(name).is_none());
        if let Some(name) = unknown {
            return Err(self.signature.unknown(name));
        }
        let shape = |port: &PortSignature| {
            let shape = shapes.get(&port.name).cloned().or_else(|| port.fixed_shape());
            let missing = || RunError::MissingInput { input: port.name.clone() };
            shape.map(Part::Shape).ok_or_else(missing)
        };
        let shapes = self.signature.inputs.iter().map(shape).collect::<Result<Vec<_>, _>>()?;
        self.prepared(&shapes)
    }

    fn prepared(&self, key: &[Part]) -> Result<Arc<Ready>, RunError> {
        self.plans.get(key, |key| {
            let (shapes, answers) = Part::apart(key, &self.signature);
            let caps = self.device.caps();
            // Drivers compile while weights are read and uploaded.
            std::thread::scope(|scope| {
                let ahead = |kernels: &[Kernel]| {
                    let kernels = kernels.to_vec();
                    scope.spawn(move || self.device.compile_ahead(&kernels));
                };
                let planning = &self.planning;
                Ok(match planning.stage(&self.signature, &shapes, &answers, &caps, &ahead)? {
                    Stored::Whole(plan) => Ready::Whole(self.prepare(key, &plan)?),
                    Stored::Value(plan) => Ready::Value(self.prepare(key, &plan)?),
                    Stored::Input(index) => Ready::Input(index),
                })
            })
        })
    }

    fn prepare(&self, key: &[Part], plan: &Plan) -> Result<Prepared, RunError> {
        let (device, in_flight) = (&self.device, self.options.in_flight);
        let memory = Prepared::layout(device, plan)?;
        self.make_room(key, Prepared::bytes(device, plan, &memory, in_flight))?;
        let made = Prepared::build(device, plan, &memory, &self.weights, &self.ledger, in_flight)?;
        if self.tuner.as_ref().is_some_and(|tuner| tuner.is_open(plan)) {
            made.expect_tuning();
        }
        self.dispatches.store(plan.steps.len(), Ordering::Relaxed);
        Ok(made)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("device", &self.device.info().name)
            .field("options", &self.options)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
