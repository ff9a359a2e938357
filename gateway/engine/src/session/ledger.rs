//! Who holds how many bytes of device memory, and the most that were ever held.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a session holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// The most bytes of device memory that the session ever held at once.
    pub peak_bytes: u64,
    /// Bytes of weights on the device now.
    pub weight_bytes: u64,
    /// Bytes of arenas, over all prepared plans, now.
    pub arena_bytes: u64,
    /// Bytes of mapped memory for inputs and outputs now.
    pub staging_bytes: u64,
    /// Bytes of outputs that stay on the device, for as long as somebody holds them, now.
    pub kept_bytes: u64,
    /// Prepared plans now.
    pub plans: usize,
    /// Dispatches of the plan that was prepared last.
    pub dispatches: usize,
    /// Plans that were made, over the session's life; of a run that its own values decide, each
    /// part is one.
    pub planned: usize,
    /// Those that came from [`super::SessionOptions::cache`] instead.
    pub loaded: usize,
}

/// One kind of memory.
#[derive(Debug, Default)]
pub(super) struct Account(AtomicU64);

impl Account {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The device memory of one session.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) weights: Account,
    pub(super) arenas: Account,
    pub(super) staging: Account,
    /// Outputs that stayed on the device.
    pub(super) kept: Account,
    peak: AtomicU64,
}

impl Ledger {
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// What runs take beside the weights.
    pub(super) fn runs(&self) -> u64 {
        self.arenas.bytes() + self.staging.bytes() + self.kept.bytes()
    }

    /// Books `bytes` on the account that `which` picks, until the answer is dropped.
    pub(super) fn hold(self: &Arc<Self>, which: fn(&Self) -> &Account, bytes: u64) -> Held {
        which(self).0.fetch_add(bytes, Ordering::Relaxed);
        self.peak.fetch_max(self.weights.bytes() + self.runs(), Ordering::Relaxed);
        Held { ledger: Arc::clone(self), which, bytes }
    }
}

/// Bytes that are booked while it lives.
#[derive(Debug)]
pub(super) struct Held {
    ledger: Arc<Ledger>,
    which: fn(&Ledger) -> &Account,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.which)(&self.ledger).0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_outlives_what_made_it() {
        let ledger = Arc::new(Ledger::default());
        let weights = ledger.hold(|l| &l.weights, 100);
        drop(ledger.hold(|l| &l.arenas, 50));
        let _arena = ledger.hold(|l| &l.arenas, 20);
        drop(ledger.hold(|l| &l.kept, 30));
        assert_eq!((ledger.arenas.bytes(), ledger.peak()), (20, 150));
        drop(weights);
        assert_eq!((ledger.weights.bytes(), ledger.kept.bytes(), ledger.peak()), (0, 0, 150));
    }
}
