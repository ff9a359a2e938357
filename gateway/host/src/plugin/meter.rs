//! How long a guest has held a thread.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Adds up how long a future holds a thread, its host calls included; waiting is not in it. Clones
/// share the sum, which can be read while the future runs.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<Mutex<Held>>);

#[derive(Clone, Copy, Default)]
struct Held {
    before: Duration,
    /// Since when the future is on a thread, where it is.
    since: Option<Instant>,
}

impl Meter {
    pub(crate) async fn measure<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|ctx| {
            self.set(Held { before: self.time(), since: Some(Instant::now()) });
            let polled = future.as_mut().poll(ctx);
            self.set(Held { before: self.time(), since: None });
            polled
        })
        .await
    }

    /// The sum until now.
    pub(crate) fn time(&self) -> Duration {
        let Held { before, since } = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        before + since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn set(&self, held: Held) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}
