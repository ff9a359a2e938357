//! The watch over a device: whether it is gone, and how long it may be silent.
//!
//! Commands are done in the order in which they came, so whoever waits also waits for what came
//! before. The time of a wait therefore begins anew whenever another one ends, and while a driver
//! may compile for somebody all who wait are patient.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::{Device, DeviceError};

/// How often whoever waits looks whether the device was lost meanwhile.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// How many times longer a wait may take in which the driver may compile: a model has some hundred
/// kernels, and a compiler takes seconds for the worst of them.
const COMPILING: u32 = 10;

/// What a test makes a device do; see [`Device::fail_next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// The device is lost while the next run is on it.
    Loss = 1,
    /// The next run counts as hung.
    Hang,
    /// The next kernel does not compile.
    Kernel,
}

/// What a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Commands whose kernels have run before.
    Run,
    /// Commands that the driver may have to compile first.
    Compile,
}

/// How a device ended.
#[derive(Clone, Debug)]
enum End {
    /// What the driver said.
    Lost(String),
    /// It was silent for so long.
    Hung(Duration),
}

/// What is known of a device's life.
#[derive(Debug)]
pub(super) struct Watch {
    /// Only the first report says what happened.
    end: OnceLock<End>,
    pace: Mutex<Pace>,
    /// The next [`Fault`]; 0 is none.
    fault: AtomicU8,
}

#[derive(Debug)]
struct Pace {
    hang_time: Option<Duration>,
    /// How many wait with [`Patience::Compile`].
    compiling: u32,
    /// When a wait last ended.
    moved: Instant,
}

impl Default for Watch {
    fn default() -> Self {
        let pace = Pace { hang_time: None, compiling: 0, moved: Instant::now() };
        Self { end: OnceLock::new(), pace: Mutex::new(pace), fault: AtomicU8::new(0) }
    }
}

impl Watch {
    /// Notes that the device is gone.
    pub(super) fn lost(&self, reason: String) {
        let _ = self.end.set(End::Lost(reason));
    }

    pub(super) fn is_lost(&self) -> bool {
        self.end.get().is_some()
    }

    /// Whether this fault is due now; `true` once.
    pub(super) fn takes(&self, fault: Fault) -> bool {
        self.fault.compare_exchange(fault as u8, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits for a device.
pub(crate) struct Waiting<'a> {
    device: &'a Device,
    patience: Patience,
    since: Instant,
}

impl Waiting<'_> {
    /// Fails where the device is gone, which it also counts as once it was silent for too long.
    pub(crate) fn look(&self) -> Result<(), DeviceError> {
        if let Some(limit) = self.too_long() {
            let _ = self.device.watch.end.set(End::Hung(limit));
        }
        self.device.check_lost()
    }

    /// How long the device may be silent, where it was silent for longer.
    fn too_long(&self) -> Option<Duration> {
        let pace = self.device.watch.pace();
        let limit = match pace.compiling {
            0 => pace.hang_time?,
            _ => pace.hang_time?.saturating_mul(COMPILING),
        };
        (self.since.max(pace.moved).elapsed() > limit).then_some(limit)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut pace = self.device.watch.pace();
        pace.moved = Instant::now();
        pace.compiling -= u32::from(self.patience == Patience::Compile);
    }
}

impl Device {
    /// How long the device may be silent while somebody waits for a run before it counts as lost;
    /// ten times as long where the driver may compile. By default there is no limit.
    pub fn set_hang_time(&self, hang_time: Duration) {
        self.watch.pace().hang_time = Some(hang_time);
    }

    /// Makes the device fail once, for tests of what follows.
    pub fn fail_next(&self, fault: Fault) {
        self.watch.fault.store(fault as u8, Ordering::SeqCst);
    }

    /// Gives the adapter up at once, as a driver crash would; for tests of what follows.
    pub fn destroy(&self) {
        self.raw.destroy();
        self.watch.lost("destroyed".to_owned());
    }

    /// Whether the device is gone; nothing made on it works any more.
    pub fn is_lost(&self) -> bool {
        self.watch.is_lost()
    }

    /// Why the device is gone, where it is.
    pub fn loss(&self) -> Option<DeviceError> {
        self.check_lost().err()
    }

    /// Begins to wait.
    pub(crate) fn waiting(&self, patience: Patience) -> Waiting<'_> {
        if self.watch.takes(Fault::Loss) {
            self.destroy();
        }
        let mut pace = self.watch.pace();
        if self.watch.takes(Fault::Hang) {
            let _ = self.watch.end.set(End::Hung(pace.hang_time.unwrap_or_default()));
        }
        pace.compiling += u32::from(patience == Patience::Compile);
        Waiting { device: self, patience, since: Instant::now() }
    }

    /// Waits until the device has done everything up to `submission`.
    pub(crate) fn wait(
        &self,
        submission: wgpu::SubmissionIndex,
        patience: Patience,
    ) -> Result<(), DeviceError> {
        let waiting = self.waiting(patience);
        loop {
            let (submission_index, timeout) = (Some(submission.clone()), Some(LOOK));
            let wait = wgpu::PollType::Wait { submission_index, timeout };
            // The library panics where the driver reports a lost device during the wait.
            let polled = std::panic::catch_unwind(AssertUnwindSafe(|| self.raw.poll(wait)));
            self.check_lost()?;
            match polled {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(wgpu::PollError::Timeout)) => waiting.look()?,
                Ok(Err(error)) => {
                    return Err(DeviceError::Refused {
                        what: "waiting for the device".to_owned(),
                        reason: error.to_string(),
                    });
                }
                Err(panic) if is_over(&*panic) => {}
                Err(_) => return Err(self.lose("the driver stopped answering")),
            }
        }
    }

    pub(crate) fn check_lost(&self) -> Result<(), DeviceError> {
        let adapter = || self.info.name.clone();
        match self.watch.end.get() {
            None => Ok(()),
            Some(End::Lost(reason)) => {
                Err(DeviceError::Lost { adapter: adapter(), reason: reason.clone() })
            }
            Some(End::Hung(limit)) => Err(DeviceError::Hung { adapter: adapter(), limit: *limit }),
        }
    }

    /// Gives up a device that did what only one does that is gone; the error for that.
    pub(crate) fn lose(&self, reason: &str) -> DeviceError {
        self.watch.lost(reason.to_owned());
        DeviceError::Lost { adapter: self.info.name.clone(), reason: reason.to_owned() }
    }
}

/// Whether wgpu-core 30.0.1 only contradicts itself: another thread saw all submissions end after
/// this one's wait had timed out and before it looked. The next wait finds that they ended.
fn is_over(panic: &(dyn Any + Send)) -> bool {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.is_some_and(|text| text.starts_with("If the queue is empty"))
}

/// What calls the driver for the last time must not wait for a device that is gone: the driver
/// waits for what it was given, which may never end. So a thread of its own does.
pub(super) fn abandon(raw: wgpu::Device, queue: wgpu::Queue, gone: std::sync::mpsc::Receiver<()>) {
    let last = move || {
        // Nobody sends: the other ends are dropped when nothing else holds the device.
        let _ = gone.recv();
        drop((queue, raw));
    };
    if let Err(error) = std::thread::Builder::new().name("gw-lost".to_owned()).spawn(last) {
        tracing::warn!(%error, "no thread lets go of the lost device; this one waits for it");
    }
}
