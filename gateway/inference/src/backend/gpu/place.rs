//! The place of a device: where models find it, and where it is opened anew once it was lost.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use gw_engine::{Device, DeviceError};

use super::chain;
use crate::InferenceError;
use crate::metrics::DeviceFailures;

/// How long a device that does not open is left alone: a driver that restarts takes seconds, and
/// each attempt loads it once more.
const RETRY: Duration = Duration::from_secs(3);

/// Opens the adapter once more.
pub(super) type Open = Box<dyn Fn() -> Result<Arc<Device>, DeviceError> + Send + Sync>;

/// A device, and how to open it anew.
pub(super) struct Place {
    name: Arc<str>,
    open: Open,
    hang_time: Duration,
    state: Mutex<State>,
    metrics: OnceLock<DeviceFailures>,
}

struct State {
    device: Arc<Device>,
    /// Whether it is known that this one is lost.
    noted: bool,
    /// When it last failed to open, and why.
    failed: Option<(Instant, String)>,
}

/// Why there is no device now.
#[derive(Debug)]
pub(super) struct Gone {
    reason: String,
    /// How long until it is tried again.
    retry: Duration,
}

impl Gone {
    /// The error of whoever wanted it.
    pub(super) fn of(self, model: &str, device: &str) -> InferenceError {
        let (model, device) = (model.to_owned(), device.to_owned());
        let Self { reason, retry } = self;
        InferenceError::DeviceGone { model, device, reason, retry }
    }
}

impl Place {
    pub(super) fn new(device: Arc<Device>, open: Open, hang_time: Duration) -> Self {
        device.set_hang_time(hang_time);
        let name = device.info().name.as_str().into();
        let state = Mutex::new(State { device, noted: false, failed: None });
        Self { name, open, hang_time, state, metrics: OnceLock::new() }
    }

    /// The adapter's name.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts what happens to the device from now on.
    pub(super) fn watch(&self, metrics: DeviceFailures) {
        let _ = self.metrics.set(metrics);
    }

    /// The device. One that is lost is opened anew by whoever comes first; the others wait for
    /// that.
    pub(super) fn device(&self) -> Result<Arc<Device>, Gone> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(loss) = state.device.loss() else { return Ok(Arc::clone(&state.device)) };
        if !std::mem::replace(&mut state.noted, true) {
            tracing::error!(device = %self.name, %loss, "it is opened anew");
            self.count(DeviceFailures::lost);
        }
        if let Some((at, reason)) = &state.failed
            && let Some(retry) = RETRY.checked_sub(at.elapsed())
        {
            return Err(Gone { reason: reason.clone(), retry });
        }
        match (self.open)() {
            Ok(device) => {
                device.set_hang_time(self.hang_time);
                tracing::info!(device = %self.name, "the lost device is back");
                self.count(|metrics| metrics.reopened(true));
                *state = State { device: Arc::clone(&device), noted: false, failed: None };
                Ok(device)
            }
            Err(error) => {
                let reason = chain(&error);
                tracing::error!(device = %self.name, reason, "the lost device does not open");
                self.count(|metrics| metrics.reopened(false));
                state.failed = Some((Instant::now(), reason.clone()));
                Err(Gone { reason, retry: RETRY })
            }
        }
    }

    fn count(&self, what: impl FnOnce(&DeviceFailures)) {
        if let Some(metrics) = self.metrics.get() {
            what(metrics);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_does_not_open_is_tried_again_once_it_was_left_alone() {
        let tries = Arc::new(AtomicUsize::new(0));
        let tried = Arc::clone(&tries);
        let open = move || match tried.fetch_add(1, Ordering::SeqCst) {
            0 => Err(DeviceError::NoAdapter),
            _ => Ok(Device::noop()),
        };
        let device = Device::noop();
        let place = Place::new(Arc::clone(&device), Box::new(open), RETRY);
        assert!(Arc::ptr_eq(&place.device().unwrap(), &device));
        device.destroy();
        for _ in 0..3 {
            let gone = place.device().unwrap_err();
            assert!(!gone.retry.is_zero() && gone.retry <= RETRY, "{gone:?}");
        }
        assert_eq!(tries.load(Ordering::SeqCst), 1);
        place.state.lock().unwrap().failed.as_mut().unwrap().0 -= RETRY;
        assert!(!place.device().unwrap().is_lost());
        assert_eq!(tries.load(Ordering::SeqCst), 2);
    }
}
