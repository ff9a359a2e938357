//! Who holds how many bytes of device memory, and the most that were ever held.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    peak: AtomicU64,
}

impl Ledger {
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Books `bytes` on the account that `which` picks, until the answer is dropped.
    pub(super) fn hold(self: &Arc<Self>, which: fn(&Self) -> &Account, bytes: u64) -> Held {
        which(self).0.fetch_add(bytes, Ordering::Relaxed);
        let now = self.weights.bytes() + self.arenas.bytes() + self.staging.bytes();
        self.peak.fetch_max(now, Ordering::Relaxed);
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
        assert_eq!((ledger.arenas.bytes(), ledger.peak()), (20, 150));
        drop(weights);
        assert_eq!((ledger.weights.bytes(), ledger.peak()), (0, 150));
    }
}
