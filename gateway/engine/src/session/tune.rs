//! Which variants of a model's kernels are fastest on a device: measured, behind the first answers.
//!
//! A plan begins with the defaults of its adapter. Once a run of it has ended, a thread times the
//! other variants of its products between the runs that go on, on the plan's own buffers, until
//! what a model may take of the device is spent. A variant is taken where it left the same bits
//! as the default and was faster twice; so an answer depends neither on what was measured nor on
//! when.
//!
//! - [`table`]: what was found, shared by all models of a device and kept on disk.

pub(super) mod table;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gw_shaders::kernel::Dispatch;

use super::parts::Part;
use super::planning::Planning;
use super::prepared::Prepared;
use super::prepared::race::{Limit, Race};
use super::{Ready, RunError};
use crate::device::Device;
use crate::model::Signature;
use crate::plan::store::Stored;
use crate::plan::why::Reason;
use crate::plan::{Plan, Step};
use table::Class;
pub use table::{Tuned, Tuning};

/// How much faster than the default a variant must be, twice: a new plan is not free, and
/// measurements differ by some percent.
const GAIN: f64 = 1.05;

/// The family whose variants add in one order, by `fma` (D28). Others leave the same bits for some
/// data only, and what a run left may be such.
const ALIKE: &str = "gemm";

/// The share of what is left in which variants may still be compiled; the rest is for timing them.
const COMPILING: f64 = 0.9;

/// The tuner of one session.
pub(super) struct Tuner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the session and the tuner's thread share.
struct Shared {
    device: Arc<Device>,
    signature: Signature,
    planning: Arc<Planning>,
    tuning: Arc<Tuning>,
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    running: bool,
    stopped: bool,
    spent: Duration,
    /// Of the plan that was tuned last.
    tuned: Vec<Tuned>,
}

/// A plan that has run, and what it was made for.
#[derive(Debug)]
struct Job {
    key: Vec<Part>,
    ready: Weak<Ready>,
}

impl Tuner {
    pub(super) fn new(
        device: Arc<Device>,
        signature: Signature,
        planning: Arc<Planning>,
        tuning: Arc<Tuning>,
    ) -> Self {
        let (state, idle) = (Mutex::default(), Condvar::new());
        let shared = Shared { device, signature, planning, tuning, state, idle };
        Self { shared: Arc::new(shared), thread: Mutex::default() }
    }

    /// Tunes a plan that has run, soon.
    pub(super) fn suggest(&self, key: Vec<Part>, ready: &Arc<Ready>) {
        let mut state = self.shared.state();
        if state.stopped {
            return;
        }
        state.jobs.push_back(Job { key, ready: Arc::downgrade(ready) });
        if std::mem::replace(&mut state.running, true) {
            return;
        }
        drop(state);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        // The one before found nothing more to do.
        thread.take().map(JoinHandle::join);
        let shared = Arc::clone(&self.shared);
        let spawned =
            std::thread::Builder::new().name("gw-tune".to_owned()).spawn(move || shared.work());
        match spawned {
            Ok(handle) => *thread = Some(handle),
            Err(error) => {
                tracing::warn!(%error, "kernels are not tuned: no thread");
                self.shared.stop();
                self.shared.state().running = false;
            }
        }
    }

    /// Whether a plan has steps that could be done another way: a faster one is known, or there is
    /// time to look for it.
    pub(super) fn is_open(&self, plan: &Plan) -> bool {
        let tuning = &self.shared.tuning;
        let has_time = !self.shared.left().is_zero();
        let is_open = |step: &Step| {
            tuning.is_better_known(step) || has_time && !tuning.knows(&Class::of(&step.dispatch))
        };
        let open = |step: &&Step| has_choice(step) && step.choice.reason != Reason::Tuned;
        plan.steps.iter().filter(open).any(is_open)
    }

    /// Waits until nothing is left to measure; what is done another way since.
    pub(super) fn settle(&self) -> Vec<Tuned> {
        let mut state = self.shared.state();
        while state.running {
            state = self.shared.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.tuned.clone()
    }
}

/// The thread calls the driver, so it must be gone before the process unloads it.
impl Drop for Tuner {
    fn drop(&mut self) {
        self.shared.stop();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner);
        thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.jobs.clear();
    }

    /// Does what was suggested until nothing is left.
    fn work(&self) {
        let _unwinding = Unwinding(self);
        while let Some(job) = self.next() {
            if let Err(error) = self.tune(&job) {
                tracing::debug!(%error, "a plan is not tuned");
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        let job = state.jobs.pop_front();
        if job.is_none() {
            state.running = false;
            self.idle.notify_all();
        }
        job
    }

    /// What is left of what the model may take; none once the session is gone.
    fn left(&self) -> Duration {
        let state = self.state();
        let left = self.tuning.budget().saturating_sub(state.spent);
        if state.stopped { Duration::ZERO } else { left }
    }

    /// Measures what is not known of a plan's steps, and gives them the fastest variants.
    fn tune(&self, Job { key, ready }: &Job) -> Result<(), RunError> {
        let Some(ready) = ready.upgrade() else { return Ok(()) };
        let Ready::Whole(prepared) = &*ready else { return Ok(()) };
        let (shapes, answers) = Part::apart(key, &self.signature);
        let caps = self.device.caps();
        // Anew, because a plan from the disk does not say what its steps compute.
        let Stored::Whole(mut plan) = self.planning.plan(&shapes, &answers, &caps)? else {
            return Ok(());
        };
        for (class, index) in unknown(&plan, &self.tuning) {
            let left = self.left();
            if left.is_zero() {
                break;
            }
            let start = Instant::now();
            let end = start + left.mul_f64(COMPILING);
            let measured = self.measure(prepared, index, &plan.steps[index], &class, end);
            self.state().spent += start.elapsed();
            if let Err(error) = measured {
                // What was found until then still counts.
                tracing::debug!(%error, "a step is not tuned");
                break;
            }
        }
        // A plan that is not done with is kept as it was, so that a later start looks again.
        let is_done = unknown(&plan, &self.tuning).is_empty();
        let classes: Vec<Class> = plan.steps.iter().map(|step| Class::of(&step.dispatch)).collect();
        if self.tuning.choose(&mut plan, &caps) {
            prepared.adopt(&self.device, &plan)?;
            self.state().tuned = self.tuning.changes(&classes, &plan);
            if is_done {
                self.planning.keep(&shapes, &answers, &caps, plan);
            }
        }
        self.tuning.save();
        Ok(())
    }

    /// Times the variants of one step that compile before `end`, notes the fastest, and lets go of
    /// the others.
    fn measure(
        &self,
        prepared: &Prepared,
        index: usize,
        step: &Step,
        class: &Class,
        end: Instant,
    ) -> Result<(), RunError> {
        let candidates = candidates(step, &self.device);
        let limit = Limit { end, is_stopped: &|| self.state().stopped };
        let timed = self.time(prepared, index, &candidates, &limit);
        let best = timed.iter().flatten().map(|&(best, ..)| best).next();
        let lost = candidates.iter().enumerate().filter(|&(index, _)| Some(index) != best);
        self.device.release(lost.map(|(_, dispatch)| &dispatch.kernel));
        if let Some((best, times, is_complete)) = timed? {
            let default = &step.dispatch.kernel;
            self.tuning.note(class, &candidates[best].kernel, times, default, is_complete);
        }
        Ok(())
    }

    /// The fastest of the variants of one step, the times of it and of the default, and whether all
    /// took part; `None` where that was stopped.
    fn time(
        &self,
        prepared: &Prepared,
        index: usize,
        candidates: &[Dispatch],
        limit: &Limit<'_>,
    ) -> Result<Option<(usize, [f64; 2], bool)>, RunError> {
        let race = Race::new(&self.device, prepared, index, candidates, limit)?;
        let Some(mut race) = race else { return Ok(None) };
        let first = race.run(limit)?;
        let best = fastest(&first);
        let mut winner = (0, [first[0], first[0]]);
        if first[best] * GAIN < first[0] {
            race.only(best);
            let second = race.run(limit)?;
            if second[best] * GAIN < second[0] {
                winner = (best, [second[best], second[0]]);
            }
        }
        let (best, times) = winner;
        Ok((!(limit.is_stopped)()).then_some((best, times, race.is_complete)))
    }
}

/// Whoever waits for the thread goes on where it panics, and nothing more is measured.
struct Unwinding<'a>(&'a Shared);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
            self.0.state().running = false;
            self.0.idle.notify_all();
        }
    }
}

/// The classes of which nothing is known, each with the first of its steps; those that compute most
/// come first.
pub(super) fn unknown(plan: &Plan, tuning: &Tuning) -> Vec<(Class, usize)> {
    let mut classes: Vec<(Class, usize, u64)> = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let class = Class::of(&step.dispatch);
        if !has_choice(step) || tuning.knows(&class) {
            continue;
        }
        match classes.iter_mut().find(|(known, ..)| *known == class) {
            Some((_, _, flops)) => *flops += step.cost.flops,
            None => classes.push((class, index, step.cost.flops)),
        }
    }
    classes.sort_by_key(|(_, _, flops)| std::cmp::Reverse(*flops));
    classes.into_iter().map(|(class, index, _)| (class, index)).collect()
}

/// Whether a step could be done another way.
fn has_choice(step: &Step) -> bool {
    step.dispatch.kernel.name == ALIKE && !step.choice.alternatives.is_empty()
}

/// The default of a step, and what could take its place. On a software adapter workgroup memory
/// never paid, and some compilers take seconds for a loop around barriers.
fn candidates(step: &Step, device: &Device) -> Vec<Dispatch> {
    let caps = device.caps();
    let Some(work) = &step.work else { return Vec::new() };
    let mut found = work.variants(&caps).unwrap_or_default();
    let bindings = step.dispatch.kernel.bindings.clone();
    found.retain(|dispatch| {
        let kernel = &dispatch.kernel;
        kernel.bindings == bindings && !(caps.software && kernel.needs.workgroup_bytes > 0)
    });
    found
}

/// The index of the least time.
fn fastest(times: &[f64]) -> usize {
    let least = times.iter().enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
    least.map_or(0, |(index, _)| index)
}
