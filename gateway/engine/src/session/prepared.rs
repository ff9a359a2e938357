//! A plan with everything that a run needs, made once and replayed.
//!
//! - `build`: pipelines, arenas, bind groups, copies.
//! - `program`: the dispatches.
//! - `transfer`: what a run moves between the caller and the device, and what stays there.
//! - [`value`]: tensors in host memory and on the device.
//! - `clock`, `race`: steps that are timed, alone and against each other.

mod build;
pub(super) mod clock;
mod program;
pub(super) mod race;
mod transfer;
pub(super) mod value;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wgpu::{CommandEncoderDescriptor, ComputePassDescriptor};

use super::convert;
use super::error::RunError;
use super::ledger::{Held, Ledger};
use super::profile::{Laps, Phases};
use super::staging::{Form, Ring, Staging};
use super::weights::Weights;
use crate::device::watch::Patience;
use crate::device::{Device, DeviceError};
use crate::plan::Plan;
use crate::plan::memory::{self, MemoryPlan};
use program::Program;
pub(super) use transfer::Asked;
use transfer::{Copy, Output};
use value::{DeviceTensor, Given, Value};

/// Where a tensor starts in staging memory: mapped ranges start at multiples of eight.
const STAGING_ALIGNMENT: u64 = 16;

/// A plan on a device.
#[derive(Debug)]
pub(super) struct Prepared {
    program: Mutex<Program>,
    /// Whether some step could be faster for all that is known, and nobody has looked yet.
    untuned: AtomicBool,
    /// Whether the driver has compiled its kernels, which some put off to the first dispatch.
    compiled: AtomicBool,
    uploads: Vec<Copy>,
    downloads: Vec<Copy>,
    inputs: Vec<String>,
    outputs: Vec<Output>,
    form: Form,
    ring: Ring,
    _held: [Held; 2],
    _own_weights: Vec<Held>,
}

impl Prepared {
    /// Checks `plan` against the adapter and gives its buffers places.
    pub(super) fn layout(device: &Device, plan: &Plan) -> Result<MemoryPlan, RunError> {
        plan.verify()?;
        plan.verify_for(&device.caps())?;
        Ok(memory::plan_memory(plan, &build::limits(device))?)
    }

    /// Bytes of arenas and staging that a plan with this layout takes.
    pub(super) fn bytes(
        device: &Device,
        plan: &Plan,
        memory: &MemoryPlan,
        in_flight: usize,
    ) -> u64 {
        let staging = |ports| build::transfers(ports, plan, memory, device.alignment()).1;
        let pair = staging(&plan.inputs) + staging(&plan.outputs);
        memory.arena_bytes() + pair * in_flight.max(1) as u64
    }

    /// Compiles, uploads, allocates and binds whatever `plan` needs.
    pub(super) fn build(
        device: &Device,
        plan: &Plan,
        memory: &MemoryPlan,
        weights: &Weights,
        ledger: &Arc<Ledger>,
        in_flight: usize,
    ) -> Result<Self, RunError> {
        let (weights, own_weights) = weights.upload(device, plan)?;
        let pipelines = build::compile(device, plan)?;
        let arenas = build::arenas(device, memory)?;
        let transfers = |ports| build::transfers(ports, plan, memory, device.alignment());
        let (uploads, upload_bytes) = transfers(&plan.inputs);
        let (downloads, download_bytes) = transfers(&plan.outputs);
        let both = [uploads.as_slice(), downloads.as_slice()];
        let locations = build::locations(plan, memory, &arenas, &weights, both);
        let (steps, own) = build::bind(device, plan, &pipelines, &locations)?;
        let form = Form { upload_bytes, download_bytes, own };
        let pairs = in_flight.max(1);
        let staging = (0..pairs).map(|_| Staging::new(device, &form)).collect::<Result<_, _>>()?;
        let staging_bytes = (upload_bytes + download_bytes) * pairs as u64;
        Ok(Self {
            program: Mutex::new(Program {
                summary: Arc::new(plan.summary_with(memory)),
                steps: steps.into(),
            }),
            untuned: AtomicBool::new(false),
            compiled: AtomicBool::new(false),
            uploads: build::copies(&uploads, &locations),
            downloads: build::copies(&downloads, &locations),
            inputs: plan.inputs.iter().map(|port| port.name.clone()).collect(),
            outputs: plan.outputs.iter().map(Output::of).collect(),
            form,
            ring: Ring::new(staging),
            _held: [
                ledger.hold(|ledger| &ledger.arenas, memory.arena_bytes()),
                ledger.hold(|ledger| &ledger.staging, staging_bytes),
            ],
            _own_weights: own_weights,
        })
    }

    /// Says that some step could be faster for all that is known.
    pub(super) fn expect_tuning(&self) {
        self.untuned.store(true, Ordering::Relaxed);
    }

    /// Whether the plan should be tuned; `true` once.
    pub(super) fn is_untuned(&self) -> bool {
        self.untuned.load(Ordering::Relaxed) && self.untuned.swap(false, Ordering::Relaxed)
    }

    /// What a run replays now.
    pub(super) fn program(&self) -> Program {
        self.program.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does each step as `plan` does it, which is this plan with other variants of its kernels.
    pub(super) fn adopt(&self, device: &Device, plan: &Plan) -> Result<(), RunError> {
        let program = self.program().with(device, plan)?;
        self.compiled.store(false, Ordering::Relaxed);
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = program;
        Ok(())
    }

    /// Runs the plan once, with one tensor per input, of the plan's types and shapes. Of the
    /// outputs those stay on the device that have memory in `kept`, which is empty where none has.
    pub(super) fn run(
        &self,
        device: &Device,
        inputs: &[Given<'_>],
        kept: &[Option<DeviceTensor>],
    ) -> Result<Vec<(String, Value)>, RunError> {
        self.run_timed(device, Asked { inputs, kept }, &mut Phases::default())
    }

    /// As [`Prepared::run`], with a note of where the time went.
    pub(super) fn run_timed(
        &self,
        device: &Device,
        asked: Asked<'_>,
        phases: &mut Phases,
    ) -> Result<Vec<(String, Value)>, RunError> {
        let submit = |staging: &Staging, phases: &mut Phases| {
            Ok(device.scoped("a run", || self.submit(device, staging, asked, phases))?)
        };
        self.replay(device, asked, phases, submit)
    }

    /// As [`Prepared::run_timed`], where the commands were recorded once before: on a software
    /// adapter every run empties the caches that recording needs.
    pub(super) fn run_warm(
        &self,
        device: &Device,
        asked: Asked<'_>,
        phases: &mut Phases,
    ) -> Result<(), RunError> {
        let submit = |staging: &Staging, phases: &mut Phases| {
            device.scoped("a run", || drop(self.encode(device, staging, asked)))?;
            Ok(device.scoped("a run", || self.submit(device, staging, asked, phases))?)
        };
        self.replay(device, asked, phases, submit).map(drop)
    }

    /// Whatever a run does around `submit`, which leaves the staging memory asked for.
    fn replay(
        &self,
        device: &Device,
        asked: Asked<'_>,
        phases: &mut Phases,
        submit: impl FnOnce(&Staging, &mut Phases) -> Result<wgpu::SubmissionIndex, RunError>,
    ) -> Result<Vec<(String, Value)>, RunError> {
        for upload in &self.uploads {
            // What is on the device already has a device's form.
            if let Given::Host(tensor) = asked.inputs[upload.port] {
                convert::check_range(&self.inputs[upload.port], tensor)?;
            }
        }
        if self.downloads.is_empty() {
            return self.outputs(&[], asked);
        }
        let outputs = self.with_staging(device, |staging| {
            let (mut whole, mut laps) = (Laps::start(), Laps::start());
            self.write(staging, asked)?;
            phases.upload_us = laps.lap();
            let submission = submit(staging, phases)?;
            laps.lap();
            self.wait(device, submission, staging)?;
            phases.wait_us = laps.lap();
            let outputs = self.read(staging, asked);
            phases.read_back_us = laps.lap();
            phases.total_us = whole.lap();
            Ok(outputs)
        });
        outputs.flatten()
    }

    /// Lends a pair to `work`. One that did not go through the whole of it is given up: it may not
    /// be mapped as the next run expects it.
    fn with_staging<T>(
        &self,
        device: &Device,
        work: impl FnOnce(&Staging) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let mut lease = self.ring.take();
        let staging = match lease.staging.take() {
            Some(staging) => staging,
            None => Staging::new(device, &self.form)?,
        };
        let done = work(&staging)?;
        lease.staging = Some(staging);
        Ok(done)
    }

    /// Makes the driver compile every kernel for real, by one workgroup of each: some drivers
    /// put that off to the first dispatch.
    pub(super) fn warm_up(&self, device: &Device) -> Result<(), RunError> {
        let mut seen = HashSet::new();
        let mut record = |pass: &mut wgpu::ComputePass<'_>, staging: &Staging| {
            for (step, own) in self.program().bound(staging) {
                if seen.insert(Arc::as_ptr(&step.pipeline)) {
                    step.encode(pass, own, None, [1, 1, 1]);
                }
            }
        };
        self.with_staging(device, |staging| {
            staging.upload.as_ref().inspect(|buffer| buffer.unmap());
            let submission = device.scoped("the warm-up of a model", || {
                let descriptor = CommandEncoderDescriptor::default();
                let mut encoder = device.raw.create_command_encoder(&descriptor);
                record(&mut encoder.begin_compute_pass(&ComputePassDescriptor::default()), staging);
                let submission = device.queue.submit([encoder.finish()]);
                staging.expect(true, true);
                submission
            })?;
            self.wait(device, submission, staging)?;
            staging.download.as_ref().inspect(|buffer| buffer.unmap());
            Ok(())
        })
    }

    /// Waits for a run and for its staging memory.
    fn wait(
        &self,
        device: &Device,
        submission: wgpu::SubmissionIndex,
        staging: &Staging,
    ) -> Result<(), RunError> {
        let patience = match self.compiled.load(Ordering::Relaxed) {
            true => Patience::Run,
            false => Patience::Compile,
        };
        device.wait(submission, patience)?;
        staging.arrivals.wait(device)?;
        self.compiled.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Hands one command buffer over, and asks for the staging memory behind it.
    fn submit(
        &self,
        device: &Device,
        staging: &Staging,
        asked: Asked<'_>,
        phases: &mut Phases,
    ) -> wgpu::SubmissionIndex {
        let mut laps = Laps::start();
        let commands = self.encode(device, staging, asked);
        phases.encode_us = laps.lap();
        let submission = device.queue.submit([commands]);
        self.expect(staging, asked);
        phases.submit_us = laps.lap();
        submission
    }

    /// One encoder, one pass.
    fn encode(&self, device: &Device, staging: &Staging, asked: Asked<'_>) -> wgpu::CommandBuffer {
        let mut encoder = device.raw.create_command_encoder(&CommandEncoderDescriptor::default());
        self.upload(&mut encoder, staging, asked);
        let program = self.program();
        if !program.steps.is_empty() {
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
            let mut bound = None;
            for (step, own) in program.bound(staging) {
                step.encode(&mut pass, own, bound, step.workgroups);
                bound = Some(&step.pipeline);
            }
        }
        self.download(&mut encoder, staging, asked);
        encoder.finish()
    }
}

/// The bytes that a tensor takes in staging memory.
const fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(STAGING_ALIGNMENT)
}

fn range(start: u64, bytes: u64) -> std::ops::Range<usize> {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    at(start)..at(start + bytes)
}

fn refused(what: &str, error: &wgpu::MapRangeError) -> RunError {
    DeviceError::Refused { what: what.to_owned(), reason: error.to_string() }.into()
}

#[cfg(test)]
mod tests {
    use gw_shaders::expr::{Binary, Expr};
    use gw_shaders::kernel::Scalar;
    use gw_shaders::layout::View;
    use gw_shaders::pointwise;
    use gw_tensor::Tensor;

    use super::*;
    use crate::AdapterSelect;
    use crate::plan::tests::PlanBuilder;

    #[test]
    fn a_second_run_starts_and_ends_while_the_first_is_in_flight() {
        let Ok(device) = Device::open(&AdapterSelect::Any) else { return };
        let mut plan = PlanBuilder::default();
        let (x, y) = (plan.input("x", 4), plan.output("y", 4));
        plan.step("double", &[x], &[y]);
        let mut plan = plan.build();
        let double = pointwise::Spec {
            shape: vec![4],
            inputs: vec![View::dense(&[4]); 2],
            output: View::dense(&[4]),
            expr: Expr::binary(Binary::Add, Scalar::F32),
        };
        plan.steps[0].dispatch = pointwise::dispatch(&double, &device.caps()).unwrap();
        plan.steps[0].bindings = vec![x, x, y];
        let ledger = Arc::new(Ledger::default());
        let weights = Weights::new(Arc::clone(&ledger));
        let memory = Prepared::layout(&device, &plan).unwrap();
        let prepared = Prepared::build(&device, &plan, &memory, &weights, &ledger, 2).unwrap();
        let tensor = |value: f32| Tensor::from_slice([4], &[value; 4]).unwrap();
        let one = tensor(1.0);
        let asked = Asked { inputs: &[Given::Host(&one)], kept: &[] };
        // Between the first run's submission and its wait, another does all of its own.
        let submit = |staging: &Staging, phases: &mut Phases| {
            let submission = prepared.submit(&device, staging, asked, phases);
            let second = prepared.run(&device, &[Given::Host(&tensor(5.0))], &[]).unwrap();
            assert_eq!(second[0].1.host(), Some(&tensor(10.0)));
            Ok(submission)
        };
        let first = prepared.replay(&device, asked, &mut Phases::default(), submit);
        assert_eq!(first.unwrap()[0].1.host(), Some(&tensor(2.0)));
    }
}
