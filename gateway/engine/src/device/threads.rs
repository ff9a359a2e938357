//! Work of a start, spread over the cores.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What `work` makes of each item, in order, on as many threads as there are cores.
///
/// # Panics
/// Where `work` does.
pub(crate) fn on_all_cores<T: Sync, R: Send + Sync>(
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let made: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
    let take = || {
        while let Some(index) =
            Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < items.len())
        {
            // Each index is taken once, so the place is empty.
            let _ = made[index].set(work(&items[index]));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(take);
        }
        take();
    });
    made.into_iter().map(|made| made.into_inner().expect("every item had its turn")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..100).collect();
        assert_eq!(on_all_cores(&items, |item| item * 2), (0..200).step_by(2).collect::<Vec<_>>());
        assert_eq!(on_all_cores(&[0usize; 0], |item| *item), [0usize; 0]);
    }
}
