//! Requests that were let in a moment ago and have not asked yet: their guests run first.
//!
//! Without them all who come while the first is on its way would be let in too, and refused once
//! their guests had run.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Who has not asked by then asks something else, or takes long for it.
const SOON: Duration = Duration::from_millis(10);

/// The tenants of those requests, in order, with the times at which they were let in.
#[derive(Default)]
pub(super) struct Coming(VecDeque<(Instant, Box<str>)>);

impl Coming {
    pub(super) fn let_in(&mut self, tenant: &str, now: Instant) {
        self.forget(now);
        self.0.push_back((now, tenant.into()));
    }

    /// One of this tenant has asked; whichever that is.
    pub(super) fn asked(&mut self, tenant: &str) {
        if let Some(first) = self.0.iter().position(|(_, of)| **of == *tenant) {
            self.0.remove(first);
        }
    }

    /// How many of this tenant are on their way.
    pub(super) fn count(&self, tenant: &str, now: Instant) -> u32 {
        let is_soon = |&&(since, ref of): &&(Instant, Box<str>)| {
            **of == *tenant && now.saturating_duration_since(since) < SOON
        };
        u32::try_from(self.0.iter().filter(is_soon).count()).unwrap_or(u32::MAX)
    }

    fn forget(&mut self, now: Instant) {
        while let Some((since, _)) = self.0.front()
            && now.saturating_duration_since(*since) >= SOON
        {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_let_in_is_on_the_way_until_one_asks_or_for_a_moment() {
        let (mut coming, now) = (Coming::default(), Instant::now());
        for tenant in ["a", "b", "a"] {
            coming.let_in(tenant, now);
        }
        assert_eq!(["a", "b", "c"].map(|tenant| coming.count(tenant, now)), [2, 1, 0]);
        coming.asked("a");
        coming.asked("c");
        assert_eq!([coming.count("a", now), coming.count("b", now)], [1, 1]);
        assert_eq!(coming.count("a", now + SOON), 0);
        coming.let_in("a", now + SOON);
        assert_eq!((coming.0.len(), coming.count("a", now + SOON)), (1, 1), "the others are gone");
    }
}
