//! A device: an opened adapter, with the kernels compiled for it.
//!
//! - [`adapter`]: which adapters there are, and which one to take.
//! - [`error`]: what can go wrong.
//! - `pipelines`: kernels, compiled once.
//! - [`roofline`]: what a device can do at most.
//! - `pages`: large files in memory.
//! - `threads`: work of a start, spread over the cores.
//! - `single`: one dispatch with its own buffers, for kernel tests.
//! - `watch`: whether a device is gone, and how long it may be silent.

pub mod adapter;
pub mod error;
pub(crate) mod pages;
pub(crate) mod pipelines;
pub mod roofline;
mod single;
pub(crate) mod threads;
pub(crate) mod watch;

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use gw_shaders::kernel::{Caps, PARAM_WORDS_MAX};

pub use adapter::{AdapterInfo, AdapterLimits, AdapterSelect, adapters};
pub use error::DeviceError;
pub use watch::Fault;
use watch::Watch;

/// Bytes of immediates in every pipeline layout: one size, so that layouts stay compatible.
pub(crate) const IMMEDIATE_BYTES: u32 = 128;
const _: () = assert!(IMMEDIATE_BYTES as usize == 4 * PARAM_WORDS_MAX);

/// An opened adapter. Any number of threads may use it at once.
#[derive(Debug)]
pub struct Device {
    pub(crate) raw: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    info: AdapterInfo,
    caps: Caps,
    limits: wgpu::Limits,
    pipelines: pipelines::Pipelines,
    watch: Arc<Watch>,
    memory_max: AtomicU64,
    /// The last field, so that whoever holds the other end knows when the rest is dropped.
    last: Option<mpsc::Sender<()>>,
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.is_lost() {
            let (last, gone) = mpsc::channel();
            self.last = Some(last);
            watch::abandon(self.raw.clone(), self.queue.clone(), gone);
        }
    }
}

impl Device {
    /// Opens the adapter that `select` names, with the features and limits that it has.
    ///
    /// # Errors
    /// [`DeviceError`] where no adapter fits, or where the one that does cannot run kernels.
    pub fn open(select: &AdapterSelect) -> Result<Arc<Self>, DeviceError> {
        Self::open_with(select, adapter::WANTED)
    }

    /// As [`Device::open`], but kernels never bind what the CPU maps: so a software adapter moves
    /// tensors as hardware does, for tests of that way.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_unmapped(select: &AdapterSelect) -> Result<Arc<Self>, DeviceError> {
        Self::open_with(select, adapter::WANTED - wgpu::Features::MAPPABLE_PRIMARY_BUFFERS)
    }

    fn open_with(select: &AdapterSelect, wanted: wgpu::Features) -> Result<Arc<Self>, DeviceError> {
        let (info, adapter) = adapter::select(select)?;
        if !adapter.features().contains(wgpu::Features::IMMEDIATES) {
            return Err(DeviceError::MissingFeature { adapter: info.name, feature: "immediates" });
        }
        let limits = adapter.limits();
        let opened = block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("gw"),
            required_features: adapter.features() & wanted,
            required_limits: limits.clone(),
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            // A plan makes few, large buffers; small allocation blocks waste less.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        }));
        let (raw, queue) =
            opened.map_err(|source| DeviceError::Open { adapter: info.name.clone(), source })?;
        tracing::info!(adapter = info.name, backend = info.backend, "device opened");
        Ok(Arc::new(Self::build(raw, queue, info)))
    }

    /// A device that accepts every command and executes none: buffers keep what was written.
    ///
    /// It needs no driver, so it serves to check plans and to time the CPU's side of a run.
    pub fn noop() -> Arc<Self> {
        let (raw, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor {
            label: Some("noop"),
            required_features: adapter::WANTED & !wgpu::Features::PIPELINE_CACHE,
            required_limits: wgpu::Limits {
                max_immediate_size: IMMEDIATE_BYTES,
                ..wgpu::Limits::default()
            },
            ..wgpu::DeviceDescriptor::default()
        });
        let info = AdapterInfo::of_parts(raw.adapter_info(), &raw.limits(), raw.features());
        Arc::new(Self::build(raw, queue, info))
    }

    fn build(raw: wgpu::Device, queue: wgpu::Queue, info: AdapterInfo) -> Self {
        let watch = Arc::<Watch>::default();
        let note = Arc::clone(&watch);
        raw.set_device_lost_callback(move |reason, message| {
            note.lost(format!("{reason:?} {message}"));
        });
        // What a run does is inside an error scope; whatever is left is logged, never a panic.
        raw.on_uncaptured_error(Arc::new(|error: wgpu::Error| {
            tracing::error!(%error, "device error outside a run");
        }));
        let limits = raw.limits();
        Self {
            caps: caps(&info, &limits),
            pipelines: pipelines::Pipelines::default(),
            raw,
            queue,
            info,
            limits,
            watch,
            memory_max: AtomicU64::new(u64::MAX),
            last: None,
        }
    }

    /// The adapter.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// What kernels may use here.
    pub fn caps(&self) -> Caps {
        self.caps
    }

    /// From now on the device has no memory for a buffer with which they would take more than
    /// `bytes` together. Buffers that are made at one time are looked at one by one.
    pub fn limit_memory(&self, bytes: u64) {
        self.memory_max.store(bytes, Ordering::Relaxed);
    }

    /// Live objects, as the graphics library counts them. A steady state changes none of them.
    pub fn counters(&self) -> Counters {
        let hal = self.raw.get_internal_counters().hal;
        Counters {
            buffers: hal.buffers.read(),
            bind_groups: hal.bind_groups.read(),
            pipelines: hal.compute_pipelines.read(),
            memory_allocations: hal.memory_allocations.read(),
            buffer_bytes: hal.buffer_memory.read(),
        }
    }

    /// Whether kernels may bind what the CPU maps, and lose nothing by it: the CPU computes.
    pub(crate) fn binds_mapped(&self) -> bool {
        (self.caps.software || self.info.backend == "noop")
            && self.raw.features().contains(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS)
    }

    pub(crate) fn limits(&self) -> &wgpu::Limits {
        &self.limits
    }

    /// Where a binding may start: never less than what every adapter accepts.
    pub(crate) fn alignment(&self) -> u64 {
        u64::from(self.limits.min_storage_buffer_offset_alignment.max(256))
    }

    /// Runs `work`, which calls the graphics library, and returns the errors that it reports.
    pub(crate) fn scoped<T>(&self, what: &str, work: impl FnOnce() -> T) -> Result<T, DeviceError> {
        self.check_lost()?;
        let memory = self.raw.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.raw.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.raw.push_error_scope(wgpu::ErrorFilter::Validation);
        let value = work();
        let errors = [block_on(validation.pop()), block_on(internal.pop()), block_on(memory.pop())];
        self.check_lost()?;
        match errors.into_iter().flatten().next() {
            None => Ok(value),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(DeviceError::OutOfMemory { what: what.to_owned() })
            }
            Some(error) => {
                Err(DeviceError::Refused { what: what.to_owned(), reason: error.to_string() })
            }
        }
    }

    /// Whether there is memory for `bytes` more, as far as [`Device::limit_memory`] decides that.
    pub(crate) fn has_memory(&self, what: &str, bytes: u64) -> Result<(), DeviceError> {
        let held = u64::try_from(self.counters().buffer_bytes).unwrap_or(0);
        if held.saturating_add(bytes) > self.memory_max.load(Ordering::Relaxed) {
            return Err(DeviceError::OutOfMemory { what: what.to_owned() });
        }
        Ok(())
    }

    /// Gives back what was dropped since the device was last waited for.
    pub(crate) fn reclaim(&self) {
        // It only looks, so there is nothing to time out; who waits next learns of a lost device.
        let poll = std::panic::AssertUnwindSafe(|| self.raw.poll(wgpu::PollType::Poll));
        drop(std::panic::catch_unwind(poll));
    }
}

/// Live objects of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say what is counted")]
pub struct Counters {
    pub buffers: isize,
    pub bind_groups: isize,
    pub pipelines: isize,
    pub memory_allocations: isize,
    pub buffer_bytes: isize,
}

fn caps(info: &AdapterInfo, limits: &wgpu::Limits) -> Caps {
    let has = |feature: &str| info.features.iter().any(|name| name == feature);
    Caps {
        subgroup: has("SUBGROUP").then_some((info.limits.subgroup_min, info.limits.subgroup_max)),
        f16: has("SHADER_F16"),
        int64: has("SHADER_INT64"),
        workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
        storage_buffers: limits.max_storage_buffers_per_shader_stage,
        // A part of a weight has a buffer of its own at most.
        binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        software: info.software,
        avx512: info.software && has_avx512(),
    }
}

/// Whether this CPU has AVX-512 for vectors of the 256 bits that llvmpipe uses, too.
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512vl")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

/// Runs a future of the graphics library to its end. On native adapters they are ready at once.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return value;
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
