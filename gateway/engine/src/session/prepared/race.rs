//! Dispatches that could do one step, timed against each other on the plan's own buffers.
//!
//! A run writes whatever it reads, and each submission of a race is whole, so runs that go on
//! between them are not disturbed. Memory of its own a race needs only to compare results, and in
//! place of the memory of a run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gw_shaders::kernel::{Dispatch, Scalar};
use wgpu::{BufferUsages, CommandEncoderDescriptor, ComputePassDescriptor};

use super::clock::Clock;
use super::program::Ready;
use super::{Prepared, refused};
use crate::device::Device;
use crate::device::watch::Patience;
use crate::session::error::RunError;
use crate::session::staging::{Arrivals, Memory, Stretch};

/// Bytes of a result that is compared; a step that writes more keeps its default.
const COMPARED_BYTES_MAX: u64 = 16 << 20;

/// Rounds of a race: at least so many, at most so many, and no more once the time is over.
const ROUNDS: std::ops::Range<usize> = 3..20;
const ROUNDS_TIME: Duration = Duration::from_millis(30);

/// The contenders for one step, the default first; `None` has left the race.
#[derive(Debug)]
pub(in crate::session) struct Race<'a> {
    device: &'a Device,
    clock: Clock,
    contenders: Vec<Option<Ready>>,
    /// What each writes.
    writes: Vec<Written>,
    /// Whether everybody had a turn.
    pub(in crate::session) is_complete: bool,
}

/// How long a race may take.
pub(in crate::session) struct Limit<'a> {
    pub(in crate::session) end: Instant,
    pub(in crate::session) is_stopped: &'a dyn Fn() -> bool,
}

/// A stretch of a buffer that the step writes.
#[derive(Debug)]
struct Written {
    buffer: wgpu::Buffer,
    offset: u64,
    bytes: u64,
    scalar: Scalar,
}

impl Limit<'_> {
    /// Whether there is time for so much more.
    fn allows(&self, more: Duration) -> bool {
        !(self.is_stopped)() && Instant::now() + more <= self.end
    }
}

impl<'a> Race<'a> {
    /// Compiles `dispatches`, of which the first is the default, as many as can be compiled and
    /// timed in time, and drops those that do not leave its bits. `None` where the plan has no such
    /// step.
    pub(in crate::session) fn new(
        device: &'a Device,
        prepared: &Prepared,
        step: usize,
        dispatches: &[Dispatch],
        limit: &Limit<'_>,
    ) -> Result<Option<Self>, RunError> {
        let program = prepared.program();
        let (Some(place), Some((default, others))) =
            (program.steps.get(step), dispatches.split_first())
        else {
            return Ok(None);
        };
        let (place, writes) = apart(device, prepared, place, step)?;
        let default = place.with(device, default)?;
        let clock = Clock::new(device, 1)?;
        let mut race = Self { device, clock, contenders: vec![], writes, is_complete: true };
        let once = Duration::from_secs_f64(race.clock.time(device, &[&default])?[0] / 1e6);
        let mut present = 1;
        for dispatch in others {
            // It is compared with the default, takes part in all rounds, and two may go on.
            let runs = 2 + ROUNDS.start * (present + 1) + ROUNDS.start * 2;
            if !limit.allows(once * u32::try_from(runs).unwrap_or(u32::MAX)) {
                race.is_complete = false;
                race.contenders.push(None);
                continue;
            }
            // One that the driver refuses is out, too.
            let ready = place.with(device, dispatch).ok();
            let ready = match ready {
                Some(ready) if race.leave_the_same([&default, &ready])? => Some(ready),
                _ => None,
            };
            present += usize::from(ready.is_some());
            race.contenders.push(ready);
        }
        race.contenders.insert(0, Some(default));
        Ok(Some(race))
    }

    /// Leaves only the default and one other.
    pub(in crate::session) fn only(&mut self, other: usize) {
        for (index, contender) in self.contenders.iter_mut().enumerate() {
            if index != 0 && index != other {
                *contender = None;
            }
        }
    }

    /// The least microseconds of each contender over some rounds; infinite for who is out, and for
    /// all but the default where the race is stopped. Each run is a submission of its own: a
    /// request waits behind one of them.
    pub(in crate::session) fn run(&self, limit: &Limit<'_>) -> Result<Vec<f64>, RunError> {
        let mut times = vec![f64::INFINITY; self.contenders.len()];
        let start = Instant::now();
        for round in 0..ROUNDS.end {
            if round >= ROUNDS.start && start.elapsed() > ROUNDS_TIME {
                break;
            }
            for (contender, time) in self.contenders.iter().zip(&mut times) {
                let Some(ready) = contender else { continue };
                if (limit.is_stopped)() {
                    times[1..].fill(f64::INFINITY);
                    return Ok(times);
                }
                *time = time.min(self.clock.time(self.device, &[ready])?[0]);
            }
        }
        Ok(times)
    }

    /// Whether two dispatches leave the same bits. They run in one submission, so that no run comes
    /// between.
    fn leave_the_same(&self, pair: [&Ready; 2]) -> Result<bool, RunError> {
        let (device, writes) = (self.device, &self.writes);
        let bytes: u64 = writes.iter().map(|written| written.bytes).sum();
        if bytes > COMPARED_BYTES_MAX {
            return Ok(false);
        }
        let buffer = device.scoped("the results of two variants", || {
            device.raw.create_buffer(&wgpu::BufferDescriptor {
                label: Some("results"),
                size: (2 * bytes).max(4),
                usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        let arrivals = Arc::<Arrivals>::default();
        let submission = device.scoped("a comparison of variants", || {
            let mut encoder =
                device.raw.create_command_encoder(&CommandEncoderDescriptor::default());
            let mut at = 0;
            for ready in pair {
                let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
                ready.encode(&mut pass, None, None, ready.workgroups);
                drop(pass);
                for written in writes {
                    let (from, offset) = (&written.buffer, written.offset);
                    encoder.copy_buffer_to_buffer(from, offset, &buffer, at, written.bytes);
                    at += written.bytes;
                    // What the other does not write is seen.
                    encoder.clear_buffer(from, offset, Some(written.bytes));
                }
            }
            let submission = device.queue.submit([encoder.finish()]);
            arrivals.expect(&buffer, wgpu::MapMode::Read);
            submission
        })?;
        device.wait(submission, Patience::Compile)?;
        arrivals.wait(device)?;
        let mapped = buffer.get_mapped_range(..);
        let mapped = mapped.map_err(|error| refused("comparing variants", &error))?;
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&mapped);
        let (due, given) = words.split_at(words.len() / 2);
        let floats = writes.iter().flat_map(|written| {
            let words = usize::try_from(written.bytes / 4).unwrap_or(0);
            std::iter::repeat_n(written.scalar == Scalar::F32, words)
        });
        Ok(due.iter().zip(given).zip(floats).all(|((&due, &given), float)| same(given, due, float)))
    }
}

/// The step with memory of its own where it binds that of a run, and what it writes.
fn apart(
    device: &Device,
    prepared: &Prepared,
    place: &Ready,
    step: usize,
) -> Result<(Ready, Vec<Written>), RunError> {
    let mut place = place.clone();
    let mut own = [None, None];
    if let Some(bindings) = prepared.form.own.get(step).and_then(Option::as_ref) {
        let bytes = [prepared.form.upload_bytes, prepared.form.download_bytes];
        let group = device.scoped("the memory of a race", || {
            own = bytes.map(|bytes| (bytes > 0).then(|| filled(device, bytes)));
            bindings.group(device, own.each_ref().map(Option::as_ref))
        })?;
        place.group = Some(group);
    }
    let [upload, download] = own;
    let written = place.writes.iter().filter_map(|(stretch, scalar)| {
        let Stretch { memory, offset, bytes } = stretch;
        let buffer = match memory {
            Memory::Shared(buffer) => Some(buffer.clone()),
            Memory::Upload => upload.clone(),
            Memory::Download => download.clone(),
        };
        Some(Written { buffer: buffer?, offset: *offset, bytes: *bytes, scalar: *scalar })
    });
    let written = written.collect();
    Ok((place, written))
}

/// Memory with floats between 1 and 2, none like its neighbour.
fn filled(device: &Device, bytes: u64) -> wgpu::Buffer {
    let buffer = device.raw.create_buffer(&wgpu::BufferDescriptor {
        label: Some("race"),
        size: bytes,
        usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
        mapped_at_creation: true,
    });
    // What cannot be mapped stays zero.
    if let Ok(mut mapped) = buffer.get_mapped_range_mut(..) {
        let word = |index: u32| 0x3F80_0000 | index.wrapping_mul(0x9E37_79B1) >> 9;
        let words: Vec<u32> = (0..u32::MAX).zip(0..bytes / 4).map(|(at, _)| word(at)).collect();
        mapped.slice(..words.len() * 4).copy_from_slice(bytemuck::cast_slice(&words));
    }
    buffer.unmap();
    buffer
}

/// Whether two words are one value: what is no number may be so in many ways.
fn same(given: u32, due: u32, float: bool) -> bool {
    let is_nan = |bits: u32| f32::from_bits(bits).is_nan();
    given == due || float && is_nan(given) && is_nan(due)
}

#[cfg(test)]
mod tests {
    use gw_shaders::expr::{Binary, Expr};
    use gw_shaders::kernel::Scalar;
    use gw_shaders::layout::View;
    use gw_shaders::pointwise;

    use super::*;
    use crate::AdapterSelect;
    use crate::plan::tests::PlanBuilder;
    use crate::session::ledger::Ledger;
    use crate::session::prepared::value::Given;
    use crate::session::weights::Weights;

    fn step(device: &Device, expr: Expr) -> Dispatch {
        let shape = vec![1 << 12];
        let (inputs, output) = (vec![View::dense(&shape); expr.inputs.len()], View::dense(&shape));
        let spec = pointwise::Spec { shape, inputs, output, expr };
        pointwise::dispatch(&spec, &device.caps()).unwrap()
    }

    #[test]
    fn whoever_leaves_other_bits_is_out() {
        let Ok(device) = Device::open(&AdapterSelect::Any) else { return };
        let mut plan = PlanBuilder::default();
        let (x, y) = (plan.input("x", 1 << 12), plan.output("y", 1 << 12));
        plan.step("double", &[x], &[y]);
        let mut plan = plan.build();
        let of = |op| step(&device, Expr::binary(op, Scalar::F32));
        let (double, nothing, square) = (of(Binary::Add), of(Binary::Sub), of(Binary::Mul));
        plan.steps[0].dispatch = double.clone();
        plan.steps[0].bindings = vec![x, x, y];
        let ledger = Arc::new(Ledger::default());
        let weights = Weights::new(Arc::clone(&ledger));
        let memory = Prepared::layout(&device, &plan).unwrap();
        let prepared = Prepared::build(&device, &plan, &memory, &weights, &ledger, 2).unwrap();
        let values: Vec<f32> = (0..1 << 12).map(|value| value as f32).collect();
        let values = gw_tensor::Tensor::from_slice([1 << 12], &values).unwrap();
        prepared.run(&device, &[Given::Host(&values)], &[]).unwrap();
        let is_stopped = || false;
        let limit = Limit { end: Instant::now() + Duration::from_mins(1), is_stopped: &is_stopped };
        let mut idle = double.clone();
        idle.workgroups = [0, 1, 1];
        let all = [double.clone(), nothing, double, square, idle];
        let mut race = Race::new(&device, &prepared, 0, &all, &limit).unwrap().unwrap();
        assert!(race.is_complete);
        let times = race.run(&limit).unwrap();
        let present = |times: &[f64]| times.iter().map(|time| time.is_finite()).collect::<Vec<_>>();
        assert_eq!(present(&times), [true, false, true, false, false], "{times:?}");
        race.only(0);
        let times = race.run(&limit).unwrap();
        assert_eq!(present(&times), [true, false, false, false, false]);
        // Without time the default is alone.
        let late = Limit { end: Instant::now(), ..limit };
        let late = Race::new(&device, &prepared, 0, &all, &late).unwrap().unwrap();
        assert!(!late.is_complete);
        assert_eq!(present(&late.run(&limit).unwrap()), [true, false, false, false, false]);
    }
}
