//! How many of a tenant's requests are refused, and what that says of the wait of the others.
//!
//! Where more comes than can be served, a line is always as long as it may be, and everybody waits
//! for as long as that takes. A shorter one serves as many, sooner.

use std::collections::HashMap;
use std::time::Duration;

/// One request moves the share of refusals by one part in so many.
const WINDOW: f64 = 64.0;

/// A smaller share than this is none.
const SHARE_MIN: f64 = 0.01;

/// The share of refusals among the last requests of each tenant that has any.
#[derive(Default)]
pub(super) struct Refusals(HashMap<Box<str>, f64>);

impl Refusals {
    pub(super) fn refused(&mut self, tenant: &str) {
        match self.0.get_mut(tenant) {
            Some(share) => *share += (1.0 - *share) / WINDOW,
            None => {
                self.0.insert(tenant.into(), 1.0 / WINDOW);
            }
        }
    }

    pub(super) fn admitted(&mut self, tenant: &str) {
        let Some(share) = self.0.get_mut(tenant) else { return };
        *share -= *share / WINDOW;
        if *share < SHARE_MIN {
            self.0.remove(tenant);
        }
    }

    /// How long a request of this tenant may wait: half of `wait_max` where nearly all are refused.
    pub(super) fn wait_max(&self, tenant: &str, wait_max: Duration) -> Duration {
        let share = self.0.get(tenant).copied().unwrap_or_default();
        wait_max.saturating_sub(wait_max.mul_f64(share / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_is_refused_most_of_the_time_may_wait_half_as_long() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.wait_max("a", Duration::MAX), Duration::MAX);
        for _ in 0..1000 {
            refusals.refused("a");
        }
        let wait = refusals.wait_max("a", 2 * SECOND);
        assert!(wait.abs_diff(SECOND) < SECOND / 100, "{wait:?}");
        assert_eq!(refusals.wait_max("b", 2 * SECOND), 2 * SECOND, "another is not refused");
        // One of four is admitted: three eighths less.
        for _ in 0..1000 {
            (0..3).for_each(|_| refusals.refused("a"));
            refusals.admitted("a");
        }
        let wait = refusals.wait_max("a", 8 * SECOND);
        assert!(wait.abs_diff(5 * SECOND) < SECOND / 10, "{wait:?}");
        for _ in 0..1000 {
            refusals.admitted("a");
        }
        assert!(refusals.0.is_empty(), "nothing is kept of who is not refused any more");
    }
}
