//! Mapped memory on the way in and out, made once and used in turn.

use std::num::NonZeroU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use wgpu::BufferUsages;

use crate::device::watch::{LOOK, Patience};
use crate::device::{Device, DeviceError};

/// A stretch of memory that a kernel binds.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) memory: Memory,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// Whose memory that is.
#[derive(Clone, Debug)]
pub(super) enum Memory {
    /// All runs have it: an arena or weights.
    Shared(wgpu::Buffer),
    /// A run's own, where its inputs come in.
    Upload,
    /// A run's own, where its outputs go out.
    Download,
}

/// What a step binds.
#[derive(Debug)]
pub(super) struct Bindings {
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) stretches: Vec<Stretch>,
}

impl Bindings {
    /// Whether the bindings are the same in all runs.
    pub(super) fn are_shared(&self) -> bool {
        self.stretches.iter().all(|at| matches!(at.memory, Memory::Shared(_)))
    }

    /// The bind group, with the memory of one run.
    pub(super) fn group(
        &self,
        device: &Device,
        [upload, download]: [Option<&wgpu::Buffer>; 2],
    ) -> wgpu::BindGroup {
        let bound = self.stretches.iter().filter_map(|at| {
            let buffer = match &at.memory {
                Memory::Shared(buffer) => Some(buffer),
                Memory::Upload => upload,
                Memory::Download => download,
            }?;
            let size = NonZeroU64::new(at.bytes);
            Some(wgpu::BufferBinding { buffer, offset: at.offset, size })
        });
        let entries: Vec<_> = (0..)
            .zip(bound)
            .map(|(binding, at)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(at),
            })
            .collect();
        device.raw.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.layout,
            entries: &entries,
        })
    }
}

/// What the pairs of a plan are like.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) upload_bytes: u64,
    pub(super) download_bytes: u64,
    /// One entry per step: what it binds where that is not the same in all runs.
    pub(super) own: Vec<Option<Bindings>>,
}

/// One pair of buffers: what a run needs of its own.
#[derive(Debug)]
pub(super) struct Staging {
    /// Mapped for writing whenever no run uses it; `None` where the plan uploads nothing.
    pub(super) upload: Option<wgpu::Buffer>,
    /// Mapped for reading at the end of a run; `None` where the plan downloads nothing.
    pub(super) download: Option<wgpu::Buffer>,
    /// One entry per step: its bind group where it binds this pair.
    pub(super) groups: Vec<Option<wgpu::BindGroup>>,
    pub(super) arrivals: Arc<Arrivals>,
}

/// What errors call it.
const WHAT: &str = "the staging memory of a plan";

impl Staging {
    pub(super) fn new(device: &Device, form: &Form) -> Result<Self, DeviceError> {
        let buffer = |label, size, usage, mapped_at_creation| {
            (size > 0).then(|| {
                let label = Some(label);
                let descriptor = wgpu::BufferDescriptor { label, size, usage, mapped_at_creation };
                device.raw.create_buffer(&descriptor)
            })
        };
        let bound = match device.binds_mapped() {
            true => BufferUsages::STORAGE,
            false => BufferUsages::empty(),
        };
        let (up, down) = (
            BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC | bound,
            BufferUsages::MAP_READ | BufferUsages::COPY_DST | bound,
        );
        device.has_memory(WHAT, form.upload_bytes + form.download_bytes)?;
        device.scoped(WHAT, || {
            let upload = buffer("upload", form.upload_bytes, up, true);
            let download = buffer("download", form.download_bytes, down, false);
            let group = |own: &Bindings| own.group(device, [upload.as_ref(), download.as_ref()]);
            let groups = form.own.iter().map(|own| own.as_ref().map(group)).collect();
            Self { upload, download, groups, arrivals: Arc::default() }
        })
    }
}

impl Staging {
    /// Asks for the buffers that a run uses to be mapped once the device is done with them.
    pub(super) fn expect(&self, upload: bool, download: bool) {
        if let Some(buffer) = self.upload.as_ref().filter(|_| upload) {
            self.arrivals.expect(buffer, wgpu::MapMode::Write);
        }
        if let Some(buffer) = self.download.as_ref().filter(|_| download) {
            self.arrivals.expect(buffer, wgpu::MapMode::Read);
        }
    }
}

/// Counts the buffers that the device still has to hand back.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    state: Mutex<ArrivalState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ArrivalState {
    pending: usize,
    failed: bool,
}

impl Arrivals {
    /// Asks for `buffer` to be mapped once the device is done with it.
    pub(super) fn expect(self: &Arc<Self>, buffer: &wgpu::Buffer, mode: wgpu::MapMode) {
        self.state().pending += 1;
        let arrivals = Arc::clone(self);
        buffer.map_async(mode, .., move |result| {
            let mut state = arrivals.state();
            state.pending -= 1;
            state.failed |= result.is_err();
            arrivals.changed.notify_all();
        });
    }

    /// Waits until every expected buffer is mapped. The device has finished by then, but another
    /// thread's wait may be the one that reports it.
    pub(super) fn wait(&self, device: &Device) -> Result<(), DeviceError> {
        let waiting = device.waiting(Patience::Run);
        let mut state = self.state();
        while state.pending > 0 {
            // A lost device may never answer.
            waiting.look()?;
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.failed {
            return Err(device.lose("its memory could not be mapped"));
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, ArrivalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fixed number of [`Staging`] pairs. An empty place is one that a failed run gave up; whoever
/// takes it makes a new pair.
#[derive(Debug)]
pub(super) struct Ring {
    free: Mutex<Vec<Option<Staging>>>,
    returned: Condvar,
}

impl Ring {
    pub(super) fn new(pairs: Vec<Staging>) -> Self {
        let free = pairs.into_iter().map(Some).collect();
        Self { free: Mutex::new(free), returned: Condvar::new() }
    }

    /// Takes a pair, waiting for one where all are in use.
    pub(super) fn take(&self) -> Lease<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match free.pop() {
                Some(staging) => return Lease { ring: self, staging },
                None => {
                    free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// A place of a [`Ring`], given back on drop, empty unless its pair is put into it again.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    ring: &'a Ring,
    pub(super) staging: Option<Staging>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut free = self.ring.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(self.staging.take());
        self.ring.returned.notify_one();
    }
}
