//! `gw bench URL`: requests to an endpoint, and what became of them.
//!
//! - [`schedule`]: when each request is due.
//! - [`client`]: one connection, and what it sends.
//! - [`tally`]: what is counted; [`histogram`]: latencies in little memory.
//!
//! A connection is a thread: it waits for a turn to the microsecond, costs nothing while it does,
//! and does not share a clock with the others.

mod client;
mod histogram;
mod schedule;
mod tally;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gw_artifact::duration;
use gw_artifact::source::ShownUrl;
use tokio::sync::mpsc;
use ureq::http::{HeaderName, HeaderValue, Method};

use self::client::{Asked, Client, Resolved};
use self::schedule::{Arrivals, Schedule, Turn, Until};
use self::tally::{Load, Moments, Tally};
use crate::node::{self, Told};
use crate::progress;
use crate::report::{Advice, Output};

const CONNECTIONS: u32 = 16;
const DURATION: Duration = Duration::from_secs(10);
/// Long enough for a model's first runs, and for connections to be there.
const WARMUP: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(30);
/// After an error a connection waits so long, so that a server which is gone is not asked in a
/// circle as fast as the machine can.
const PAUSE: Duration = Duration::from_millis(10);
/// How often the progress bar moves.
const TICK: Duration = Duration::from_millis(200);

/// What is said of a load.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options for a URL")]
pub(super) struct Flags {
    /// Connections, each with one request under way at a time [default: 16]
    #[arg(short, long, env = "GW_CONNECTIONS", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    connections: Option<u32>,
    /// How long to send requests, such as 30s [default: 10s]
    #[arg(long, env = "GW_DURATION", value_name = "TIME", value_parser = duration::parse)]
    duration: Option<Duration>,
    /// How many requests to send, instead of for how long
    #[arg(long, env = "GW_REQUESTS", value_name = "N", conflicts_with = "duration")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Requests a second, sent whether or not earlier ones are answered [default: each connection
    /// sends when it has its answer]
    #[arg(long, env = "GW_RATE", value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// How the requests of a rate lie in time: at random, as from many clients, or evenly
    /// [default: poisson]
    #[arg(long, env = "GW_ARRIVALS", value_enum, requires = "rate")]
    arrivals: Option<Arrivals>,
    /// How long to send requests before any is counted [default: 1s]
    #[arg(long, env = "GW_WARMUP", value_name = "TIME", value_parser = duration::parse)]
    warmup: Option<Duration>,
    /// The method [default: POST with a body, else GET]
    #[arg(long, env = "GW_METHOD", value_name = "METHOD")]
    method: Option<Method>,
    /// A header of every request; repeat for each
    #[arg(long, env = "GW_HEADER", value_name = "NAME:VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The body of every request, or @FILE
    #[arg(long, env = "GW_DATA", value_name = "TEXT")]
    data: Option<String>,
    /// A file whose lines are bodies, in turn
    #[arg(long, env = "GW_LINES", value_name = "FILE", conflicts_with = "data")]
    lines: Option<PathBuf>,
    /// What the bodies are [default: application/json]
    #[arg(long, env = "GW_CONTENT_TYPE", value_name = "TYPE")]
    content_type: Option<HeaderValue>,
    /// How long a request may take [default: 30s]
    #[arg(long, env = "GW_TIMEOUT", value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// The key for a node that asks for one; better given in the environment
    #[arg(long, env = "GW_API_KEY", value_name = "KEY")]
    api_key: Option<String>,
}

impl Flags {
    /// A flag that was given, though only endpoints have it.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("connections", self.connections.is_some()),
            ("duration", self.duration.is_some()),
            ("requests", self.requests.is_some()),
            ("rate", self.rate.is_some()),
            ("arrivals", self.arrivals.is_some()),
            ("warmup", self.warmup.is_some()),
            ("method", self.method.is_some()),
            ("header", !self.header.is_empty()),
            ("data", self.data.is_some()),
            ("lines", self.lines.is_some()),
            ("content-type", self.content_type.is_some()),
            ("timeout", self.timeout.is_some()),
        ];
        // A key stands in an environment for other commands too.
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse::<f64>().ok().filter(|rate| (1e-3..=1e6).contains(rate));
    rate.ok_or("expected requests a second, from 0.001 to 1000000")
}

/// Splits at the first `:`.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME:VALUE")?;
    let name: HeaderName =
        name.trim().parse().map_err(|_| format!("{name:?} is no header's name"))?;
    let value = HeaderValue::from_str(value.trim());
    let value = value.map_err(|_| format!("the value of {name} holds what no header may"))?;
    Ok((name, value))
}

/// Sends requests to `url`, and tells what became of them.
///
/// # Errors
/// Where nobody is there, a flag is wrong, or no answer is a success.
pub(super) fn run(url: &str, flags: &Flags, output: Output) -> anyhow::Result<()> {
    let shown_url = ShownUrl::from(url).to_string();
    let asked = Asked::new(url, flags)?;
    let resolved = Resolved::of(&asked)?;
    let warmup = flags.warmup.unwrap_or(WARMUP);
    let until = match flags.requests {
        Some(count) => Until::Requests(count),
        None => Until::Duration(flags.duration.unwrap_or(DURATION)),
    };
    let rate = flags.rate.map(|rate| (rate, flags.arrivals.unwrap_or_default()));
    let connections = flags.connections.unwrap_or(CONNECTIONS);
    let shared = Arc::new(Shared {
        asked,
        resolved,
        timeout: flags.timeout.unwrap_or(TIMEOUT),
        warmup,
        start: Instant::now(),
        schedule: Mutex::new(Schedule::new(rate, warmup, until)),
        tally: Mutex::default(),
    });
    let interrupted = node::block_on(async {
        // Before anything is sent, so that Ctrl-C never ends a load without its figures.
        let told = Told::listen()?;
        let ended = begin(&shared, connections)?;
        Ok(shown(ended, told, &shared, until).await)
    })?;
    // What is still under way after Ctrl-C is left out.
    let load = Load {
        url: shown_url.clone(),
        connections,
        rate: flags.rate,
        elapsed: shared.start.elapsed().saturating_sub(warmup),
        unsent: locked(&shared.schedule).unsent(),
        interrupted,
    };
    let figures = std::mem::take(&mut *locked(&shared.tally)).figures(load);
    output.print(&figures, tally::Figures::text)?;
    if figures.ok == 0 {
        let hint = "the statuses and errors above say why; `curl -i` shows a whole answer";
        return Err(Advice::new(format!("no answer of {shown_url} was a success"))
            .hint(hint)
            .into());
    }
    Ok(())
}

/// Starts the connections. The channel ends with the last of them; nobody sends on it.
fn begin(shared: &Arc<Shared>, connections: u32) -> anyhow::Result<mpsc::Receiver<()>> {
    let (alive, ended) = mpsc::channel(1);
    for _ in 0..connections {
        let (shared, alive) = (Arc::clone(shared), alive.clone());
        let work = move || {
            shared.work();
            drop(alive);
        };
        std::thread::Builder::new().spawn(work).with_context(|| {
            Advice::new(format!("starting a thread for each of {connections} connections"))
                .hint("take fewer --connections, or let this user have more threads")
        })?;
    }
    Ok(ended)
}

/// Shows how far the load is until it is over; whether it was told to end before.
async fn shown(
    mut ended: mpsc::Receiver<()>,
    mut told: Told,
    shared: &Shared,
    until: Until,
) -> bool {
    let total = match until {
        Until::Duration(time) => millis(shared.warmup + time),
        Until::Requests(count) => count,
    };
    let bar = progress::steps("sending requests", total);
    let mut tick = tokio::time::interval(TICK);
    let interrupted = loop {
        tokio::select! {
            _ = ended.recv() => break false,
            () = told.again() => break true,
            _ = tick.tick() => bar.set_position(match until {
                Until::Duration(_) => millis(shared.start.elapsed()),
                Until::Requests(_) => locked(&shared.tally).ended,
            }),
        }
    };
    bar.finish_and_clear();
    interrupted
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What the connections of a load share.
struct Shared {
    asked: Asked,
    resolved: Resolved,
    timeout: Duration,
    warmup: Duration,
    start: Instant,
    schedule: Mutex<Schedule>,
    tally: Mutex<Tally>,
}

impl Shared {
    /// One connection, until the load is over.
    fn work(&self) {
        let client = Client::new(&self.asked, self.resolved, self.timeout);
        while let Some(turn) = self.turn() {
            self.wait_until(turn.due);
            let begun = self.start.elapsed();
            let outcome = client.send(turn.index);
            let ended = self.start.elapsed();
            let failed = outcome.is_err();
            if turn.counts {
                let since = |moment: Duration| moment.saturating_sub(self.warmup);
                let (due, begun, ended) = (since(turn.due), since(begun), since(ended));
                locked(&self.tally).add(Moments { due, begun, ended }, outcome);
            }
            if failed {
                self.wait_until(ended + PAUSE);
            }
        }
    }

    fn turn(&self) -> Option<Turn> {
        let mut schedule = locked(&self.schedule);
        schedule.next(self.start.elapsed())
    }

    fn wait_until(&self, moment: Duration) {
        while let Some(left) = moment.checked_sub(self.start.elapsed()).filter(|t| !t.is_zero()) {
            std::thread::park_timeout(left);
        }
    }
}

/// What a thread that panicked left is whole: counts are added one by one.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_rates_that_are_none_are_refused() {
        let (name, value) = header("X-Tenant: a:b").unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("x-tenant", &b"a:b"[..]));
        assert!(header("x-tenant").unwrap_err().contains("NAME:VALUE"));
        assert!(header("x y: 1").unwrap_err().contains("\"x y\""));
        assert!(header("x: \u{1}").is_err());
        assert_eq!(rate("0.5"), Ok(0.5));
        for text in ["0", "-1", "inf", "NaN", "many", "1e7"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
