//! Mapped memory on the way in and out, made once and used in turn.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wgpu::BufferUsages;

use crate::device::{Device, DeviceError};

/// One pair of buffers: what a run needs of its own.
#[derive(Debug)]
pub(super) struct Staging {
    /// Mapped for writing whenever no run uses it; `None` where the plan uploads nothing.
    pub(super) upload: Option<wgpu::Buffer>,
    /// Mapped for reading at the end of a run; `None` where the plan downloads nothing.
    pub(super) download: Option<wgpu::Buffer>,
    pub(super) arrivals: Arc<Arrivals>,
}

impl Staging {
    pub(super) fn new(
        device: &Device,
        upload_bytes: u64,
        download_bytes: u64,
    ) -> Result<Self, DeviceError> {
        let buffer = |label, size, usage, mapped_at_creation| {
            (size > 0).then(|| {
                let label = Some(label);
                let descriptor = wgpu::BufferDescriptor { label, size, usage, mapped_at_creation };
                device.raw.create_buffer(&descriptor)
            })
        };
        let (up, down) = (
            BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC,
            BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        );
        device.scoped("the staging memory of a plan", || Self {
            upload: buffer("upload", upload_bytes, up, true),
            download: buffer("download", download_bytes, down, false),
            arrivals: Arc::default(),
        })
    }
}

impl Staging {
    /// Asks for both buffers to be mapped once the device is done with them.
    pub(super) fn expect_both(&self) {
        if let Some(buffer) = &self.upload {
            self.arrivals.expect(buffer, wgpu::MapMode::Write);
        }
        if let Some(buffer) = &self.download {
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
        // A lost device may never answer: look for that now and then.
        const LOOK: Duration = Duration::from_millis(100);
        let mut state = self.state();
        while state.pending > 0 {
            device.check_lost()?;
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.failed {
            return Err(device.lost_error("its memory could not be mapped"));
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
