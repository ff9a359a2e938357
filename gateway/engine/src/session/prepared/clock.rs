//! The time of every step of a run.

use std::sync::Arc;

use wgpu::{BufferUsages, CommandEncoderDescriptor, ComputePassDescriptor};

use super::program::{Bound, Ready};
use super::{Asked, Prepared};
use crate::device::watch::Patience;
use crate::device::{Device, DeviceError};
use crate::session::error::RunError;
use crate::session::profile::{Laps, Method, Phases};
use crate::session::staging::{Arrivals, Staging};

/// Empty submissions that are timed; the median counts.
const EMPTY: usize = 9;

/// How steps are timed.
#[derive(Debug)]
pub(in crate::session) enum Clock {
    Stamps(Stamps),
    /// By submissions; an empty one takes so many microseconds.
    Submissions(f64),
}

/// Where the device writes the time.
#[derive(Debug)]
pub(in crate::session) struct Stamps {
    set: wgpu::QuerySet,
    count: u32,
    resolved: wgpu::Buffer,
    read: wgpu::Buffer,
    /// Nanoseconds of one tick.
    period: f64,
}

impl Clock {
    /// The best clock that `device` has for `steps` steps.
    pub(in crate::session) fn new(device: &Device, steps: usize) -> Result<Self, DeviceError> {
        let count = u32::try_from(steps + 1).unwrap_or(u32::MAX);
        let has = device.raw.features().contains(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);
        if !has || count > wgpu::QUERY_SET_MAX_QUERIES || device.info().backend == "noop" {
            return Self::submissions(device);
        }
        let bytes = 8 * u64::from(count);
        device.scoped("a clock", || {
            let buffer = |usage| {
                let (label, size) = (Some("clock"), bytes);
                let mapped_at_creation = false;
                let descriptor = wgpu::BufferDescriptor { label, size, usage, mapped_at_creation };
                device.raw.create_buffer(&descriptor)
            };
            Self::Stamps(Stamps {
                set: device.raw.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("clock"),
                    ty: wgpu::QueryType::Timestamp,
                    count,
                }),
                count,
                resolved: buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC),
                read: buffer(BufferUsages::MAP_READ | BufferUsages::COPY_DST),
                period: f64::from(device.queue.get_timestamp_period()),
            })
        })
    }

    /// A clock that any device has.
    pub(in crate::session) fn submissions(device: &Device) -> Result<Self, DeviceError> {
        let mut times = Vec::new();
        for _ in 0..EMPTY {
            let mut laps = Laps::start();
            device.wait(submit(device, |_| ())?, Patience::Compile)?;
            times.push(laps.lap());
        }
        times.sort_by(f64::total_cmp);
        Ok(Self::Submissions(times[EMPTY / 2]))
    }

    /// The microseconds of each of these dispatches, one after another; there are no more than the
    /// clock is for.
    pub(super) fn time(
        &self,
        device: &Device,
        dispatches: &[&Ready],
    ) -> Result<Vec<f64>, RunError> {
        let dispatches = dispatches.iter().map(|ready| (*ready, None));
        match self {
            Self::Stamps(stamps) => stamps.time(device, dispatches),
            Self::Submissions(empty) => Ok(by_submissions(device, dispatches, *empty)?),
        }
    }

    pub(in crate::session) fn method(&self) -> Method {
        match self {
            Self::Stamps(_) => Method::Timestamps,
            Self::Submissions(_) => Method::Submissions,
        }
    }
}

/// The microseconds of each of these dispatches, each in a submission of its own.
fn by_submissions<'a>(
    device: &Device,
    dispatches: impl Iterator<Item = Bound<'a>>,
    empty: f64,
) -> Result<Vec<f64>, DeviceError> {
    let time = |(ready, own): Bound<'a>| {
        let mut laps = Laps::start();
        let record = |pass: &mut wgpu::ComputePass<'_>| {
            ready.encode(pass, own, None, ready.workgroups);
        };
        device.wait(submit(device, record)?, Patience::Compile)?;
        Ok((laps.lap() - empty).max(0.0))
    };
    dispatches.map(time).collect()
}

/// Submits one pass.
fn submit(
    device: &Device,
    record: impl FnOnce(&mut wgpu::ComputePass<'_>),
) -> Result<wgpu::SubmissionIndex, DeviceError> {
    device.scoped("a measurement", || {
        let mut encoder = device.raw.create_command_encoder(&CommandEncoderDescriptor::default());
        record(&mut encoder.begin_compute_pass(&ComputePassDescriptor::default()));
        device.queue.submit([encoder.finish()])
    })
}

impl Prepared {
    /// Runs the plan once; the microseconds of every step.
    pub(in crate::session) fn time_steps(
        &self,
        device: &Device,
        asked: Asked<'_>,
        clock: &Clock,
    ) -> Result<Vec<f64>, RunError> {
        let mut times = Vec::new();
        self.replay(device, asked, &mut Phases::default(), |staging, _| match clock {
            Clock::Stamps(stamps) => self.stamped(device, staging, asked, stamps),
            Clock::Submissions(empty) => {
                self.one_by_one(device, staging, asked, *empty, &mut times)
            }
        })?;
        if let Clock::Stamps(stamps) = clock {
            times = stamps.read()?;
        }
        Ok(times)
    }

    /// All steps in one pass, the device's time between them.
    fn stamped(
        &self,
        device: &Device,
        staging: &Staging,
        asked: Asked<'_>,
        stamps: &Stamps,
    ) -> Result<wgpu::SubmissionIndex, RunError> {
        let program = self.program();
        Ok(device.scoped("a timed run", || {
            let mut encoder =
                device.raw.create_command_encoder(&CommandEncoderDescriptor::default());
            self.upload(&mut encoder, staging, asked);
            stamps.around(&mut encoder, program.bound(staging));
            self.download(&mut encoder, staging, asked);
            stamps.resolve(&mut encoder, program.steps.len());
            let submission = device.queue.submit([encoder.finish()]);
            self.expect(staging, asked);
            staging.arrivals.expect(&stamps.read, wgpu::MapMode::Read);
            submission
        })?)
    }

    /// Every step in a submission of its own, the CPU's time around it.
    fn one_by_one(
        &self,
        device: &Device,
        staging: &Staging,
        asked: Asked<'_>,
        empty: f64,
        times: &mut Vec<f64>,
    ) -> Result<wgpu::SubmissionIndex, RunError> {
        let copies = |copy: &dyn Fn(&mut wgpu::CommandEncoder)| {
            device.scoped("the copies of a timed run", || {
                let mut encoder =
                    device.raw.create_command_encoder(&CommandEncoderDescriptor::default());
                copy(&mut encoder);
                device.queue.submit([encoder.finish()])
            })
        };
        device.wait(copies(&|encoder| self.upload(encoder, staging, asked))?, Patience::Compile)?;
        times.extend(by_submissions(device, self.program().bound(staging), empty)?);
        let submission = copies(&|encoder| self.download(encoder, staging, asked))?;
        self.expect(staging, asked);
        Ok(submission)
    }
}

impl Stamps {
    /// All of `dispatches` in one pass, the device's time between them.
    fn around<'a>(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        dispatches: impl Iterator<Item = Bound<'a>>,
    ) {
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        pass.write_timestamp(&self.set, 0);
        for ((ready, own), index) in dispatches.zip(1..) {
            ready.encode(&mut pass, own, None, ready.workgroups);
            pass.write_timestamp(&self.set, index);
        }
    }

    /// Asks for the stamps around so many dispatches.
    fn resolve(&self, encoder: &mut wgpu::CommandEncoder, dispatches: usize) {
        let Self { set, count, resolved, read, .. } = self;
        let written = u32::try_from(dispatches + 1).unwrap_or(u32::MAX).min(*count);
        encoder.resolve_query_set(set, 0..written, resolved, 0);
        encoder.copy_buffer_to_buffer(resolved, 0, read, 0, 8 * u64::from(written));
    }

    fn time<'a>(
        &self,
        device: &Device,
        dispatches: impl ExactSizeIterator<Item = Bound<'a>>,
    ) -> Result<Vec<f64>, RunError> {
        let arrivals = Arc::<Arrivals>::default();
        let count = dispatches.len();
        let submission = device.scoped("a measurement", || {
            let mut encoder =
                device.raw.create_command_encoder(&CommandEncoderDescriptor::default());
            self.around(&mut encoder, dispatches);
            self.resolve(&mut encoder, count);
            let submission = device.queue.submit([encoder.finish()]);
            arrivals.expect(&self.read, wgpu::MapMode::Read);
            submission
        })?;
        device.wait(submission, Patience::Compile)?;
        arrivals.wait(device)?;
        let mut times = self.read()?;
        times.truncate(count);
        Ok(times)
    }

    /// The microseconds between one stamp and the next, once they have arrived.
    fn read(&self) -> Result<Vec<f64>, RunError> {
        let mapped = self.read.get_mapped_range(..);
        let mapped = mapped.map_err(|error| super::refused("reading the clock", &error))?;
        let ticks: Vec<u64> =
            mapped.as_chunks().0.iter().map(|&tick| u64::from_le_bytes(tick)).collect();
        drop(mapped);
        self.read.unmap();
        let between = |pair: &[u64]| pair[1].saturating_sub(pair[0]) as f64 * self.period / 1e3;
        Ok(ticks.windows(2).map(between).collect())
    }
}
