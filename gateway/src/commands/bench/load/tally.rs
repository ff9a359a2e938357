//! What a load has brought so far, and what is said of it in the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::client::{Answer, Failure};
use super::histogram::{Histogram, Percentiles};
use crate::report;

/// Names in `Server-Timing` that are kept; more come from a server that makes them up.
const PARTS_MAX: usize = 16;

/// The counts of a load.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Requests that count and have ended.
    pub(super) ended: u64,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<&'static str, u64>,
    first_error: Option<String>,
    accepted: Histogram,
    refused: Histogram,
    /// How much later requests began than they were due.
    late: Histogram,
    parts: BTreeMap<String, Histogram>,
    bytes_sent: u64,
    bytes_received: u64,
    /// When the last answer had come, since the warm-up.
    last_answer: Duration,
}

/// When a request was due, began and ended, since the warm-up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    pub(super) due: Duration,
    pub(super) begun: Duration,
    pub(super) ended: Duration,
}

impl Tally {
    /// Counts one request.
    pub(super) fn add(&mut self, moments: Moments, outcome: Result<Answer, Failure>) {
        let Moments { due, begun, ended } = moments;
        self.ended += 1;
        self.late.add(begun.saturating_sub(due));
        match outcome {
            Ok(answer) => {
                self.last_answer = self.last_answer.max(ended);
                self.add_answer(answer, ended.saturating_sub(due));
            }
            Err(Failure { kind, reason }) => {
                *self.errors.entry(kind).or_default() += 1;
                self.first_error.get_or_insert(reason);
            }
        }
    }

    fn add_answer(&mut self, answer: Answer, took: Duration) {
        let Answer { status, bytes_sent, bytes_received, parts } = answer;
        *self.statuses.entry(status).or_default() += 1;
        self.bytes_sent += bytes_sent;
        self.bytes_received += bytes_received;
        match status {
            200..=299 => self.accepted.add(took),
            429 | 503 => return self.refused.add(took),
            _ => return,
        }
        for (name, took) in parts {
            if self.parts.len() < PARTS_MAX || self.parts.contains_key(&name) {
                self.parts.entry(name).or_default().add(took);
            }
        }
    }

    /// What is said of it.
    pub(super) fn figures(self, load: Load) -> Figures {
        // Until the last answer, which may come after the last request by as long as it takes.
        let answered = Some(self.last_answer).filter(|last| !last.is_zero());
        let seconds = answered.unwrap_or(load.elapsed).as_secs_f64();
        let accepted = self.accepted.percentiles();
        let ok = accepted.map_or(0, |of| of.count);
        let parts = self.parts.into_iter().filter_map(|(name, of)| {
            let median = of.percentiles()?.p50_ms;
            Some((name, median))
        });
        Figures {
            url: load.url,
            connections: load.connections,
            rate: load.rate,
            requests: self.ended,
            seconds,
            ok,
            ok_per_second: if seconds > 0.0 { ok as f64 / seconds } else { 0.0 },
            statuses: self.statuses,
            errors: self.errors,
            first_error: self.first_error,
            unsent: load.unsent,
            accepted,
            refused: self.refused.percentiles(),
            late: load.rate.and_then(|_| self.late.percentiles()),
            server_timing_ms: parts.collect(),
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            interrupted: load.interrupted,
        }
    }
}

/// What was asked for, and how it ended.
pub(super) struct Load {
    pub(super) url: String,
    pub(super) connections: u32,
    pub(super) rate: Option<f64>,
    /// From the end of the warm-up to the end of the load.
    pub(super) elapsed: Duration,
    pub(super) unsent: u64,
    pub(super) interrupted: bool,
}

/// The figures of a load; the warm-up is in none of them.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    url: String,
    connections: u32,
    /// Requests a second that were asked for.
    rate: Option<f64>,
    /// Requests that ended, with an answer or without.
    requests: u64,
    /// From the end of the warm-up to the last answer.
    seconds: f64,
    /// Answers of 2xx.
    pub(super) ok: u64,
    ok_per_second: f64,
    statuses: BTreeMap<u16, u64>,
    /// Requests without a whole answer, by kind.
    errors: BTreeMap<&'static str, u64>,
    first_error: Option<String>,
    /// Requests of the rate that no connection was free for before the load ended.
    unsent: u64,
    /// Latencies of the answers of 2xx.
    accepted: Option<Percentiles>,
    /// Latencies of the answers of 429 and 503.
    refused: Option<Percentiles>,
    /// With a rate: how much later requests began than they were due, which the latencies hold.
    late: Option<Percentiles>,
    /// The medians of what the server says of its 2xx answers.
    server_timing_ms: BTreeMap<String, f64>,
    /// Bytes of the bodies of what was answered.
    bytes_sent: u64,
    bytes_received: u64,
    /// Whether it was told to end, by Ctrl-C or a signal, and left out what was under way.
    interrupted: bool,
}

impl Figures {
    /// The figures for people.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "requests    {} in {:.2} s over {} connections",
            self.requests, self.seconds, self.connections
        );
        // Writing to a string cannot fail.
        let _ = write!(text, "\nok          {}, {:.1} a second", self.ok, self.ok_per_second);
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                let _ = write!(text, "\n{name:12}{value}");
            }
        };
        line(
            "statuses",
            &listed(self.statuses.iter().map(|(of, count)| format!("{count} x {of}"))),
        );
        line("errors", &listed(self.errors.iter().map(|(of, count)| format!("{count} x {of}"))));
        line("  first", self.first_error.as_deref().unwrap_or_default());
        if self.unsent > 0 {
            line("unsent", &format!("{}: no connection was free, see --connections", self.unsent));
        }
        line("accepted", &latencies(self.accepted));
        line("refused", &latencies(self.refused));
        line("sent late", &latencies(self.late));
        let parts = self.server_timing_ms.iter();
        let medians = listed(parts.map(|(name, median)| format!("{name} {median:.2}")));
        let is_told = !medians.is_empty();
        line("server", &if is_told { format!("p50 of {medians} ms") } else { medians });
        let (sent, received) = (self.bytes_sent, self.bytes_received);
        let bytes = format!("{} sent, {} back", report::bytes(sent), report::bytes(received));
        line("bodies", &bytes);
        text
    }
}

fn listed(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn latencies(of: Option<Percentiles>) -> String {
    of.map_or_else(String::new, |of| {
        format!(
            "p50 {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2} ms",
            of.p50_ms, of.p90_ms, of.p99_ms, of.p999_ms, of.max_ms
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, parts: &[(&str, u64)]) -> Answer {
        let parts = parts.iter();
        let parts = parts.map(|&(name, millis)| (name.to_owned(), Duration::from_millis(millis)));
        Answer { status, bytes_sent: 10, bytes_received: 100, parts: parts.collect() }
    }

    fn load(rate: Option<f64>) -> Load {
        let (url, elapsed) = ("http://h/x".to_owned(), Duration::from_secs(9));
        Load { url, connections: 2, rate, elapsed, unsent: 3, interrupted: false }
    }

    /// A request that was due at a second, began 5 ms later, and ended at this millisecond.
    fn moments(ended: u64) -> Moments {
        let (due, begun) = (Duration::from_secs(1), Duration::from_millis(1_005));
        Moments { due, begun, ended: Duration::from_millis(ended) }
    }

    #[test]
    fn accepted_refused_and_failed_requests_are_told_apart() {
        let mut tally = Tally::default();
        tally.add(moments(1_020), Ok(answer(200, &[("queue", 1), ("infer", 8)])));
        tally.add(moments(1_040), Ok(answer(204, &[("infer", 10)])));
        tally.add(moments(1_006), Ok(answer(429, &[("infer", 99)])));
        tally.add(moments(1_007), Ok(answer(503, &[])));
        tally.add(moments(1_500), Ok(answer(404, &[])));
        tally.add(moments(2_000), Err(Failure { kind: "timeout", reason: "too late".into() }));
        let figures = tally.figures(load(Some(50.0)));
        insta::assert_snapshot!(figures.text(), @r"
        requests    6 in 1.50 s over 2 connections
        ok          2, 1.3 a second
        statuses    1 x 200, 1 x 204, 1 x 404, 1 x 429, 1 x 503
        errors      1 x timeout
          first     too late
        unsent      3: no connection was free, see --connections
        accepted    p50 20.03, p90 40.00, p99 40.00, p99.9 40.00, max 40.00 ms
        refused     p50 6.01, p90 7.00, p99 7.00, p99.9 7.00, max 7.00 ms
        sent late   p50 5.00, p90 5.00, p99 5.00, p99.9 5.00, max 5.00 ms
        server      p50 of infer 8.01, queue 1.00 ms
        bodies      50 B sent, 500 B back
        ");
    }

    #[test]
    fn a_load_without_answers_has_no_latencies() {
        let mut tally = Tally::default();
        tally.add(moments(1_010), Err(Failure { kind: "closed", reason: "gone".into() }));
        let figures = tally.figures(load(None));
        assert_eq!((figures.ok, figures.ok_per_second, figures.seconds), (0, 0.0, 9.0));
        let figures = serde_json::to_value(&figures).unwrap();
        assert!(figures["accepted"].is_null() && figures["late"].is_null(), "{figures}");
        assert_eq!(figures["errors"]["closed"], 1);
    }

    #[test]
    fn a_server_that_makes_up_names_fills_no_memory() {
        let mut tally = Tally::default();
        for index in 0..100 {
            let name = format!("part-{index}");
            tally.add(moments(1_010), Ok(answer(200, &[(&name, 1)])));
        }
        assert_eq!(tally.figures(load(None)).server_timing_ms.len(), PARTS_MAX);
    }
}
