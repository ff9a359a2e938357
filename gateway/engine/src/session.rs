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
//! - `prepared`: a plan with its pipelines, bind groups and arenas.
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

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gw_shaders::kernel::{Caps, Kernel};
use gw_tensor::{Shape, Tensor};

use crate::device::Device;
use crate::error::PlanError;
use crate::graph::Dim;
use crate::model::{Model, PlanOptions, PortSignature, Signature, Stage};
use crate::net::oracle::Answer;
use crate::plan::Plan;
use crate::plan::store::{PlanCache, Stored};
use crate::plan::summary::PlanSummary;
pub use error::RunError;
use ledger::Ledger;
use parts::Part;
use planning::{Planning, Shapes};
use plans::Plans;
use prepared::Prepared;
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
    /// Bytes of arenas and mapped memory that all prepared plans may take together; the plan that
    /// was used longest ago goes first, and inputs that alone need more are refused. A dropped
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

/// What a session holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// The most bytes of device memory that the session ever held at once.
    pub peak_bytes: u64,
    /// Bytes of weights on the device now.
    pub weight_bytes: u64,
    /// Bytes of arenas, over all prepared plans, now.
    pub arena_bytes: u64,
    /// Bytes of mapped memory for inputs and outputs now.
    pub staging_bytes: u64,
    /// Prepared plans now.
    pub plans: usize,
    /// Dispatches of the plan that was prepared last.
    pub dispatches: usize,
    /// Plans that were made, over the session's life; of a run that its own values decide, each
    /// part is one.
    pub planned: usize,
    /// Those that came from [`SessionOptions::cache`] instead.
    pub loaded: usize,
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
        let signature = signature_of(&plan);
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
            device,
            options,
            ledger,
        }
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
        let ordered = self.signature.ordered(inputs)?;
        self.with_last(&ordered, |prepared| prepared.run(&self.device, &ordered))
    }

    /// Waits until the variants of the plans that have run are measured, or the time for that is
    /// spent. It tells which steps of the plan that was tuned last are done another way now.
    pub fn settle(&self) -> Vec<Tuned> {
        self.tuner.as_ref().map(Tuner::settle).unwrap_or_default()
    }

    /// Runs whatever parts come before the last one, which `last` is given.
    fn with_last<T>(
        &self,
        inputs: &[&Tensor],
        last: impl FnOnce(&Prepared) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let mut key = Part::shapes(inputs);
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
                Ready::Input(index) => Answer::Input(*index, inputs[*index].clone()),
                Ready::Value(prepared) => {
                    let mut asked = prepared.run(&self.device, inputs)?;
                    Answer::Value(asked.swap_remove(0).1)
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
        match &*self.prepared_for(shapes)? {
            Ready::Whole(prepared) | Ready::Value(prepared) => prepared.warm_up(&self.device),
            // The run decides what it needs.
            Ready::Input(_) => Ok(()),
        }
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

    /// Drops prepared plans until `bytes` more are within the session's bound.
    fn make_room(&self, key: &[Part], bytes: u64) -> Result<(), RunError> {
        let max = self.options.memory_max;
        if bytes > max {
            return Err(RunError::MemoryLimit { bytes, max });
        }
        let taken = || self.ledger.arenas.bytes() + self.ledger.staging.bytes();
        self.plans.shed(key, || taken() + bytes > max);
        Ok(())
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

fn signature_of(plan: &Plan) -> Signature {
    let port = |port: &crate::plan::Port| PortSignature {
        name: port.name.clone(),
        dtype: port.dtype,
        dims: Some(port.shape.iter().map(|&size| Dim::Fixed(size)).collect()),
    };
    Signature {
        inputs: plan.inputs.iter().map(port).collect(),
        outputs: plan.outputs.iter().map(port).collect(),
    }
}
