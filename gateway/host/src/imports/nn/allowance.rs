//! What the tensors of one request may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that the tensors of one request may still take; clones share them.
#[derive(Clone)]
pub(crate) struct Allowance(Arc<AtomicUsize>);

/// A part of an [`Allowance`], given back when it is dropped.
pub(crate) struct Charge {
    allowance: Allowance,
    bytes: usize,
}

impl Allowance {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Takes `bytes`, or nothing where fewer are left.
    pub(crate) fn take(&self, bytes: usize) -> Option<Charge> {
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        taken.ok().map(|_| Charge { allowance: self.clone(), bytes })
    }

    /// The bytes that are left.
    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.allowance.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_may_be_taken_again() {
        let allowance = Allowance::new(10);
        let first = allowance.take(6);
        assert!(first.is_some());
        assert!(allowance.take(5).is_none(), "four are left");
        assert!(allowance.take(4).is_some());
        drop(first);
        assert_eq!(allowance.left(), 10);
    }
}
