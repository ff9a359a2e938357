//! The bounded cache of prepared plans, keyed by what decides a plan: shapes, and values where a
//! model needs them.
//!
//! - `room`: what goes where there is no memory for another plan.

mod room;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A place for one value; its lock is held while the value is made, so that whoever wants the
/// same one waits for it.
type Cell<T> = Arc<Mutex<Option<Arc<T>>>>;

#[derive(Debug)]
struct Entry<T> {
    cell: Cell<T>,
    used: u64,
}

#[derive(Debug)]
struct Table<K, T> {
    entries: HashMap<Vec<K>, Entry<T>>,
    clock: u64,
}

/// At most `max` values; the one that was used longest ago goes first.
#[derive(Debug)]
pub(super) struct Plans<K, T> {
    table: Mutex<Table<K, T>>,
    max: usize,
}

impl<K: Clone + Eq + Hash, T> Plans<K, T> {
    pub(super) fn new(max: usize) -> Self {
        let table = Table { entries: HashMap::new(), clock: 0 };
        Self { table: Mutex::new(table), max: max.max(1) }
    }

    pub(super) fn len(&self) -> usize {
        self.table().entries.len()
    }

    /// The value for `key`; `make` makes it if it is not there. A failure is not kept.
    pub(super) fn get<E>(
        &self,
        key: &[K],
        make: impl FnOnce(&[K]) -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let cell = self.cell(key);
        let mut place = cell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*place {
            return Ok(Arc::clone(value));
        }
        match make(key) {
            Ok(value) => {
                let value = Arc::new(value);
                *place = Some(Arc::clone(&value));
                drop(place);
                self.shed(key, || self.len() > self.max);
                Ok(value)
            }
            Err(error) => {
                drop(place);
                self.table().forget(key, &cell);
                Err(error)
            }
        }
    }

    /// Drops values, the one that was used longest ago first, for as long as `over` says so; never
    /// the one for `keep`.
    pub(super) fn shed(&self, keep: &[K], over: impl Fn() -> bool) {
        // The table's lock is not held while a value is dropped: that may take a while.
        while over() {
            let Some(entry) = self.table().oldest(keep) else { return };
            drop(entry);
        }
    }

    fn cell(&self, key: &[K]) -> Cell<T> {
        let mut table = self.table();
        table.clock += 1;
        let now = table.clock;
        // A lookup by slice, so that a run of known shapes copies no key.
        if let Some(entry) = table.entries.get_mut(key) {
            entry.used = now;
            return Arc::clone(&entry.cell);
        }
        let cell = Cell::default();
        let entry = Entry { cell: Arc::clone(&cell), used: now };
        table.entries.insert(key.to_vec(), entry);
        cell
    }

    fn table(&self) -> MutexGuard<'_, Table<K, T>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash, T> Table<K, T> {
    /// Takes out the entry that was used longest ago, but never `keep`.
    fn oldest(&mut self, keep: &[K]) -> Option<Entry<T>> {
        let others = self.entries.iter().filter(|(key, _)| key.as_slice() != keep);
        let oldest = others.min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone())?;
        self.entries.remove(&oldest)
    }

    /// Removes the entry whose making failed, unless somebody else has made it since.
    fn forget(&mut self, key: &[K], cell: &Cell<T>) {
        let failed = self.entries.get(key).is_some_and(|entry| {
            Arc::ptr_eq(&entry.cell, cell)
                && entry.cell.try_lock().is_ok_and(|place| place.is_none())
        });
        if failed {
            self.entries.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use gw_tensor::Shape;

    use super::*;

    fn key(size: usize) -> Vec<Shape> {
        vec![Shape::new([size])]
    }

    fn made(plans: &Plans<Shape, usize>, size: usize) -> bool {
        let mut made = false;
        let value = plans.get(&key(size), |_| {
            made = true;
            Ok::<_, Infallible>(size)
        });
        assert_eq!(*value.unwrap(), size);
        made
    }

    #[test]
    fn the_plan_that_was_used_longest_ago_goes_first() {
        let plans = Plans::new(2);
        assert!(made(&plans, 1) && made(&plans, 2));
        assert!(!made(&plans, 1));
        assert!(made(&plans, 3));
        assert_eq!(plans.len(), 2);
        assert!(!made(&plans, 1) && !made(&plans, 3) && made(&plans, 2));
    }

    #[test]
    fn concurrent_first_runs_of_one_shape_plan_once() {
        let (plans, count, start) = (Plans::new(4), AtomicUsize::new(0), Barrier::new(8));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let value = plans.get(&key(7), |_| {
                        count.fetch_add(1, Ordering::SeqCst);
                        // Give the others time to arrive while the plan is being made.
                        (0..100).for_each(|_| std::thread::yield_now());
                        Ok::<_, Infallible>(7)
                    });
                    assert_eq!(*value.unwrap(), 7);
                });
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let plans = Plans::new(2);
        assert_eq!(plans.get(&key(1), |_| Err::<usize, _>("no")).unwrap_err(), "no");
        assert_eq!(plans.len(), 0);
        assert!(made(&plans, 1));
    }
}
