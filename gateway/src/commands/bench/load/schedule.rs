//! When each request is due.
//!
//! With a rate the moments are fixed before anything is sent, whatever the answers do: a slow
//! answer delays nothing that follows but is seen in what follows. Without one, a request is due
//! when its connection is free. All moments are counted from the start of the load.

use std::time::Duration;

use crate::commands::bench::inputs::Random;

/// How the requests of a rate lie in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Arrivals {
    #[default]
    Poisson,
    Even,
}

/// When the load ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Until {
    /// So long after the warm-up.
    Duration(Duration),
    /// After so many requests behind the warm-up.
    Requests(u64),
}

/// One request's place in the load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Turn {
    /// Counts all requests, those of the warm-up too.
    pub(super) index: u64,
    pub(super) due: Duration,
    /// Whether it counts, or warms up.
    pub(super) counts: bool,
}

/// The turns of a load, in order.
#[derive(Debug)]
pub(super) struct Schedule {
    rate: Option<Rate>,
    warmup: Duration,
    until: Until,
    /// Turns that were given, in all and of those that count.
    given: u64,
    counted: u64,
    unsent: u64,
}

#[derive(Debug)]
struct Rate {
    per_second: f64,
    arrivals: Arrivals,
    random: Random,
    /// When the last one was due, in seconds.
    clock: f64,
}

impl Rate {
    fn next(&mut self, index: u64) -> Duration {
        self.clock = match self.arrivals {
            Arrivals::Even => index as f64 / self.per_second,
            // Gaps between independent events: exponential, by the inverse of its distribution.
            Arrivals::Poisson => {
                let unit = (self.random.next() >> 11) as f64 / (1u64 << 53) as f64;
                self.clock - (1.0 - unit).ln() / self.per_second
            }
        };
        Duration::from_secs_f64(self.clock)
    }
}

impl Schedule {
    /// A load after a warm-up, at `rate` requests a second where one is given.
    pub(super) fn new(rate: Option<(f64, Arrivals)>, warmup: Duration, until: Until) -> Self {
        let rate = rate.map(|(per_second, arrivals)| Rate {
            per_second,
            arrivals,
            random: Random(0x9e37_79b9_7f4a_7c15),
            clock: 0.0,
        });
        Self { rate, warmup, until, given: 0, counted: 0, unsent: 0 }
    }

    /// The next turn, for a connection that is free `now`; `None` once the load is over.
    pub(super) fn next(&mut self, now: Duration) -> Option<Turn> {
        if self.is_over(now) {
            self.give_up();
            return None;
        }
        let turn = self.turn(now);
        self.fits(turn).then(|| {
            self.given += 1;
            self.counted += u64::from(turn.counts);
            turn
        })
    }

    /// Requests that were due before the end, when no connection was free for them until then.
    pub(super) fn unsent(&self) -> u64 {
        self.unsent
    }

    fn is_over(&self, now: Duration) -> bool {
        matches!(self.until, Until::Duration(time) if now >= self.warmup + time)
    }

    fn turn(&mut self, now: Duration) -> Turn {
        let index = self.given;
        let due = self.rate.as_mut().map_or(now, |rate| rate.next(index));
        Turn { index, due, counts: due >= self.warmup }
    }

    fn fits(&self, turn: Turn) -> bool {
        match self.until {
            Until::Duration(time) => turn.due < self.warmup + time,
            Until::Requests(count) => self.counted < count || !turn.counts,
        }
    }

    /// Counts what is due until the end, once.
    fn give_up(&mut self) {
        while self.rate.is_some() {
            let turn = self.turn(Duration::ZERO);
            if !self.fits(turn) {
                self.rate = None;
                return;
            }
            self.given += 1;
            self.unsent += u64::from(turn.counts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// All turns of a load whose connections are always free.
    fn turns(rate: (f64, Arrivals), warmup: Duration, until: Until) -> Vec<Turn> {
        let mut schedule = Schedule::new(Some(rate), warmup, until);
        let turns = std::iter::from_fn(|| schedule.next(Duration::ZERO)).collect();
        assert_eq!(schedule.unsent(), 0);
        turns
    }

    #[test]
    fn even_requests_are_equally_far_apart() {
        let turns = turns((4.0, Arrivals::Even), SECOND, Until::Duration(SECOND));
        let millis: Vec<_> = turns.iter().map(|turn| turn.due.as_millis()).collect();
        assert_eq!(millis, [0, 250, 500, 750, 1000, 1250, 1500, 1750]);
        assert!(turns.iter().all(|turn| turn.counts == (turn.index >= 4)), "{turns:?}");
    }

    #[test]
    fn poisson_requests_come_at_their_rate_with_gaps_that_vary_as_much() {
        let turns = turns((500.0, Arrivals::Poisson), Duration::ZERO, Until::Requests(20_000));
        assert_eq!(turns.len(), 20_000);
        let dues = turns.iter().map(|turn| turn.due.as_secs_f64());
        let gaps: Vec<f64> = dues.clone().skip(1).zip(dues).map(|(b, a)| b - a).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Of an exponential distribution the standard deviation is the mean.
        assert!((mean * 500.0 - 1.0).abs() < 0.03, "a mean gap of {mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "a deviation of {}", variance.sqrt());
        assert!(gaps.iter().all(|&gap| gap >= 0.0));
    }

    #[test]
    fn without_a_rate_a_request_is_due_when_its_connection_is_free() {
        let mut schedule = Schedule::new(None, SECOND, Until::Duration(SECOND));
        let cases = [
            (0, Some((0, false))),
            (999, Some((1, false))),
            (1_000, Some((2, true))),
            (1_999, Some((3, true))),
            (2_000, None),
        ];
        for (millis, expected) in cases {
            let now = Duration::from_millis(millis);
            let expected = expected.map(|(index, counts)| Turn { index, due: now, counts });
            assert_eq!(schedule.next(now), expected, "at {millis} ms");
        }
        assert_eq!(schedule.unsent(), 0);
    }

    #[test]
    fn a_number_of_requests_is_behind_the_warm_up() {
        let mut schedule = Schedule::new(None, SECOND, Until::Requests(2));
        for millis in [0, 500, 1_000, 1_001] {
            assert!(schedule.next(Duration::from_millis(millis)).is_some(), "at {millis} ms");
        }
        assert_eq!(schedule.next(Duration::from_millis(1_002)), None);
    }

    #[test]
    fn what_no_connection_was_free_for_is_counted_once() {
        let rate = Some((100.0, Arrivals::Even));
        let mut schedule = Schedule::new(rate, SECOND, Until::Duration(SECOND));
        for _ in 0..120 {
            assert!(schedule.next(Duration::ZERO).is_some());
        }
        // 200 were due, 100 of them in the warm-up.
        assert_eq!(schedule.next(2 * SECOND), None);
        assert_eq!(schedule.unsent(), 80);
        assert_eq!(schedule.next(3 * SECOND), None);
        assert_eq!(schedule.unsent(), 80);
    }
}
