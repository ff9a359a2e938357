//! Requests that were let in a moment ago and have not asked yet: their guests run first.
//!
//! Without them all who come while the first is on its way would be let in too, and refused once
//! their guests had run.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Who has not asked by then asks something else, or takes long for it.
const SOON: Duration = Duration::from_millis(10);

/// One request moves the share of those that ask by one part in so many.
const WINDOW: f64 = 16.0;

#[derive(Default)]
pub(super) struct Coming {
    /// The tenants of those requests, in order, with the times at which they were let in.
    on_the_way: VecDeque<(Instant, Box<str>)>,
    /// The share of the last ones that asked: a guest need not.
    asking: f64,
}

impl Coming {
    pub(super) fn let_in(&mut self, tenant: &str, now: Instant) {
        self.forget(now);
        self.on_the_way.push_back((now, tenant.into()));
    }

    /// One of this tenant has asked; whichever that is.
    pub(super) fn asked(&mut self, tenant: &str, now: Instant) {
        self.forget(now);
        let first = self.on_the_way.iter().position(|(_, of)| **of == *tenant);
        if first.and_then(|first| self.on_the_way.remove(first)).is_some() {
            self.asking += (1.0 - self.asking) / WINDOW;
        }
    }

    /// How many of this tenant will ask, as far as those before tell.
    pub(super) fn expected(&self, tenant: &str, now: Instant) -> f64 {
        let is_soon = |&&(since, ref of): &&(Instant, Box<str>)| {
            **of == *tenant && now.saturating_duration_since(since) < SOON
        };
        self.on_the_way.iter().filter(is_soon).count() as f64 * self.asking
    }

    fn forget(&mut self, now: Instant) {
        while let Some((since, _)) = self.on_the_way.front()
            && now.saturating_duration_since(*since) >= SOON
        {
            self.on_the_way.pop_front();
            self.asking -= self.asking / WINDOW;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_let_in_is_expected_until_one_asks_or_for_a_moment() {
        let (mut coming, now) = (Coming { asking: 1.0, ..Coming::default() }, Instant::now());
        for tenant in ["a", "b", "a"] {
            coming.let_in(tenant, now);
        }
        let expected = |coming: &Coming, now| ["a", "b", "c"].map(|of| coming.expected(of, now));
        assert_eq!(expected(&coming, now), [2.0, 1.0, 0.0]);
        coming.asked("a", now);
        coming.asked("c", now);
        assert_eq!(expected(&coming, now), [1.0, 1.0, 0.0]);
        assert_eq!(expected(&coming, now + SOON), [0.0; 3]);
        coming.let_in("a", now + SOON);
        assert_eq!(coming.on_the_way.len(), 1, "the others are gone");
    }

    #[test]
    fn where_few_ask_few_are_expected() {
        let (mut coming, mut now) = (Coming::default(), Instant::now());
        let mut rounds = |coming: &mut Coming, asks: usize| {
            for round in 0..400 {
                now += SOON;
                coming.let_in("a", now);
                if round % 10 < asks {
                    coming.asked("a", now);
                }
            }
            coming.let_in("a", now);
            coming.expected("a", now)
        };
        assert!(rounds(&mut coming, 0) < 0.01, "nobody is known to ask");
        assert!(rounds(&mut coming, 10) > 0.99);
        assert!(rounds(&mut coming, 1) < 0.4);
    }
}
