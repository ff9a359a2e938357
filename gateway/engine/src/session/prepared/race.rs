//! Dispatches that could do one step, timed against each other on the plan's own buffers.
//!
//! A run writes whatever it reads, and each submission of a race is whole, so runs that go on
//! between them are not disturbed, nor does a race need memory of its own but to compare results.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gw_shaders::kernel::{Dispatch, Scalar};
use wgpu::{BufferUsages, CommandEncoderDescriptor, ComputePassDescriptor};

use super::clock::Clock;
use super::{Prepared, Ready, refused};
use crate::device::Device;
use crate::session::error::RunError;
use crate::session::staging::Arrivals;

/// Bytes of results that are compared; a step that writes more keeps its default.
const COMPARED_BYTES_MAX: u64 = 64 << 20;

/// Rounds of a race: at least so many, at most so many, and no more once the time is over.
const ROUNDS: std::ops::Range<usize> = 3..20;
const ROUNDS_TIME: Duration = Duration::from_millis(30);

/// The contenders for one step, the default first; `None` has left the race.
#[derive(Debug)]
pub(in crate::session) struct Race<'a> {
    device: &'a Device,
    clock: Clock,
    contenders: Vec<Option<Ready>>,
}

impl<'a> Race<'a> {
    /// Compiles `dispatches`, of which the first is the default, and drops those that do not leave
    /// its bits. `None` where that takes longer than until `end`.
    pub(in crate::session) fn new(
        device: &'a Device,
        prepared: &Prepared,
        step: usize,
        dispatches: &[Dispatch],
        end: Instant,
    ) -> Result<Option<Self>, RunError> {
        let program = prepared.program();
        let Some(place) = program.steps.get(step) else { return Ok(None) };
        let mut contenders = Vec::with_capacity(dispatches.len());
        for dispatch in dispatches {
            if Instant::now() >= end {
                return Ok(None);
            }
            // One that the driver refuses is out.
            contenders.push(place.with(device, dispatch).ok());
        }
        let clock = Clock::new(device, dispatches.len())?;
        let mut race = Self { device, clock, contenders };
        race.compare(place)?;
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

    /// The least microseconds of each contender over some rounds; `None` where `end` comes first.
    pub(in crate::session) fn run(&self, end: Instant) -> Result<Option<Vec<f64>>, RunError> {
        let mut times = vec![f64::INFINITY; self.contenders.len()];
        let (start, present) = (Instant::now(), self.present());
        for round in 0..ROUNDS.end {
            if Instant::now() >= end {
                return Ok(None);
            }
            if round >= ROUNDS.start && start.elapsed() > ROUNDS_TIME {
                break;
            }
            let contenders: Vec<&Ready> = present.iter().map(|(_, ready)| *ready).collect();
            let round = self.clock.time(self.device, &contenders)?;
            for ((index, _), time) in present.iter().zip(round) {
                times[*index] = times[*index].min(time);
            }
        }
        Ok(Some(times))
    }

    fn present(&self) -> Vec<(usize, &Ready)> {
        let indexed = self.contenders.iter().enumerate();
        indexed.filter_map(|(index, ready)| Some((index, ready.as_ref()?))).collect()
    }

    /// Runs every contender on the same data, and drops those whose results differ.
    fn compare(&mut self, place: &Ready) -> Result<(), RunError> {
        let bytes: u64 = place.writes.iter().map(|written| written.bytes).sum();
        if bytes * self.contenders.len() as u64 > COMPARED_BYTES_MAX {
            self.only(0);
            return Ok(());
        }
        let results = self.results(place, bytes)?;
        let floats = place.writes.iter().flat_map(|written| {
            let words = usize::try_from(written.bytes / 4).unwrap_or(0);
            std::iter::repeat_n(written.scalar == Scalar::F32, words)
        });
        let floats: Vec<bool> = floats.collect();
        for (contender, given) in self.contenders.iter_mut().zip(&results) {
            let words = given.iter().zip(&results[0]).zip(&floats);
            if !words.into_iter().all(|((given, due), float)| same(*given, *due, *float)) {
                *contender = None;
            }
        }
        Ok(())
    }

    /// What each contender leaves, in one submission, so that no run comes between.
    fn results(&self, place: &Ready, bytes: u64) -> Result<Vec<Vec<u32>>, RunError> {
        let (device, count) = (self.device, self.contenders.len());
        let buffer = device.scoped("the results of variants", || {
            device.raw.create_buffer(&wgpu::BufferDescriptor {
                label: Some("results"),
                size: (bytes * count as u64).max(4),
                usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        let arrivals = Arc::<Arrivals>::default();
        let submission = device.scoped("a comparison of variants", || {
            let mut encoder =
                device.raw.create_command_encoder(&CommandEncoderDescriptor::default());
            for (index, ready) in self.present() {
                let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
                ready.encode(&mut pass, None, ready.workgroups);
                drop(pass);
                let mut at = bytes * index as u64;
                for written in place.writes.iter() {
                    let (from, offset) = (&written.buffer, written.offset);
                    encoder.copy_buffer_to_buffer(from, offset, &buffer, at, written.bytes);
                    at += written.bytes;
                }
            }
            let submission = device.queue.submit([encoder.finish()]);
            arrivals.expect(&buffer, wgpu::MapMode::Read);
            submission
        })?;
        device.wait(submission)?;
        arrivals.wait(device)?;
        let mapped = buffer.get_mapped_range(..);
        let mapped = mapped.map_err(|error| refused("comparing variants", &error))?;
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&mapped);
        let each = usize::try_from(bytes / 4).unwrap_or(0).max(1);
        Ok(words.chunks(each).map(<[u32]>::to_vec).collect())
    }
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
        prepared.run(&device, &[&values]).unwrap();
        let end = Instant::now() + Duration::from_mins(1);
        let all = [double.clone(), nothing, double, square];
        let mut race = Race::new(&device, &prepared, 0, &all, end).unwrap().unwrap();
        let times = race.run(end).unwrap().unwrap();
        let present = |times: &[f64]| times.iter().map(|time| time.is_finite()).collect::<Vec<_>>();
        assert_eq!(present(&times), [true, false, true, false], "{times:?}");
        race.only(0);
        let times = race.run(end).unwrap().unwrap();
        assert_eq!(present(&times), [true, false, false, false]);
        // Without time there is no race.
        assert!(Race::new(&device, &prepared, 0, &all, Instant::now()).unwrap().is_none());
        assert!(race.run(Instant::now()).unwrap().is_none());
    }
}
