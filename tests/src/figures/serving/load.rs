//! A load of HTTP requests from one thread, over connections that are kept.
//!
//! It shares the machine with what it measures. So it writes bytes that were made before, reads no
//! more of an answer than where it ends, and says how much of a core it took.

mod answer;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::answer::Answer;
use super::percentile;
use crate::figures::process;
use crate::random::Random;

/// What takes longer than any deadline of a node will not be answered any more.
const PATIENCE: Duration = Duration::from_mins(1);

/// A client that leaves does so within so many milliseconds.
const LEAVES_MS: usize = 20;

/// Who asks, and for what.
pub(super) struct Load {
    /// `HOST:PORT`.
    pub(super) address: String,
    /// Whole requests, which are sent in turn.
    pub(super) requests: Arc<[Vec<u8>]>,
    pub(super) arrivals: Arrivals,
    /// At most so many requests are on their way, and as many wait for one of these to end.
    pub(super) connections: usize,
    /// One client in so many leaves before it has its answer; with 0 none does.
    pub(super) leaves: usize,
    pub(super) length: Duration,
}

/// When a request is sent.
#[derive(Clone, Copy)]
pub(super) enum Arrivals {
    /// When the one before it on the same connection has its answer, or after as long as a client
    /// that was refused is told to wait.
    Closed,
    /// So many a second, at times of their own (Poisson), whatever became of those before.
    Open(f64),
}

/// How it went.
#[derive(Default)]
pub(super) struct Seen {
    /// Milliseconds until each answer of status 2xx. The wait for a free connection is in it.
    pub(super) accepted: Vec<f64>,
    /// Until each 429 or 503 that says when to come again.
    pub(super) refused: Vec<f64>,
    /// Clients that left.
    pub(super) left: usize,
    /// How often anything else happened, by what it was.
    pub(super) faults: BTreeMap<String, usize>,
    /// Requests that nothing is known of.
    unanswered: usize,
    /// Requests for which there was no connection, nor a place to wait for one.
    unsent: usize,
    length: Duration,
}

impl Seen {
    /// Accepted requests a second.
    pub(super) fn rate(&self) -> f64 {
        self.accepted.len() as f64 / self.length.as_secs_f64()
    }

    /// The 99th percentile of those that were accepted, in milliseconds.
    pub(super) fn p99(&mut self) -> f64 {
        percentile(&mut self.accepted, 99)
    }

    /// Whether every request was answered, by an answer or by a refusal.
    pub(super) fn is_sound(&self) -> bool {
        self.trouble().is_empty()
    }

    /// What went wrong, for people; empty where nothing did.
    pub(super) fn trouble(&self) -> String {
        let faults = self.faults.iter().map(|(fault, &count)| (count, fault.as_str()));
        let lost = [(self.unanswered, "never answered"), (self.unsent, "had no connection")];
        let counts = faults.chain(lost).filter(|(count, _)| *count > 0);
        counts.map(|(count, what)| format!("; {count} x {what}")).collect::<Vec<_>>().concat()
    }
}

/// A POST of JSON, with an API key or without.
pub(super) fn post(path: &str, key: Option<&str>, body: &[u8]) -> Vec<u8> {
    let key = key.map(|key| format!("x-api-key: {key}\r\n")).unwrap_or_default();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: gw\r\ncontent-type: application/json\r\n{key}\
         content-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Runs loads side by side: what each saw, and the share of a core that all of them took.
///
/// # Errors
/// Where the system gives no runtime, or does not tell what a thread took.
pub(super) fn run<const N: usize>(loads: [Load; N]) -> Result<([Seen; N], f64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (begun, before) = (Instant::now(), process::thread_time()?);
    let seen = runtime.block_on(async {
        let mut running = loads.map(|load| tokio::spawn(Client::new(load).run()));
        let mut seen = Vec::new();
        for load in &mut running {
            seen.push(load.await?);
        }
        anyhow::Ok(seen)
    })?;
    let took = process::thread_time()?.saturating_sub(before);
    let share = took.as_secs_f64() / begun.elapsed().as_secs_f64();
    Ok((seen.try_into().ok().expect("each load was run"), share))
}

struct Client {
    load: Load,
    idle: Mutex<Vec<Connection>>,
    next: AtomicUsize,
    seen: Mutex<Seen>,
}

impl Client {
    fn new(load: Load) -> Arc<Self> {
        let seen = Seen { length: load.length, ..Seen::default() };
        let (idle, next) = (Mutex::default(), AtomicUsize::new(0));
        Arc::new(Self { load, idle, next, seen: Mutex::new(seen) })
    }

    async fn run(self: Arc<Self>) -> Seen {
        match self.load.arrivals {
            Arrivals::Closed => Arc::clone(&self).closed().await,
            Arrivals::Open(rate) => Arc::clone(&self).open(rate).await,
        }
        let mut seen = std::mem::take(&mut *locked(&self.seen));
        let known = seen.accepted.len() + seen.refused.len() + seen.left;
        let known = known + seen.faults.values().sum::<usize>();
        seen.unanswered = self.next.load(Ordering::Relaxed) - known;
        seen
    }

    async fn closed(self: Arc<Self>) {
        let end = Instant::now() + self.load.length;
        let clients = (0..self.load.connections).map(|_| {
            let client = Arc::clone(&self);
            tokio::spawn(async move {
                while Instant::now() < end {
                    if let Some(wait) = client.ask(Instant::now()).await {
                        tokio::time::sleep_until((Instant::now() + wait).min(end).into()).await;
                    }
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            // One that panicked has left a request unanswered, which is counted.
            let _ = client.await;
        }
    }

    async fn open(self: Arc<Self>, rate: f64) {
        let places = Arc::new(Semaphore::new(self.load.connections));
        let line = Arc::new(Semaphore::new(2 * self.load.connections));
        let mut random = Random(rate.to_bits());
        let mut due = Instant::now();
        let end = due + self.load.length;
        loop {
            due += gap(&mut random, rate);
            if due >= end {
                break;
            }
            tokio::time::sleep_until(due.into()).await;
            let Ok(in_line) = Arc::clone(&line).try_acquire_owned() else {
                locked(&self.seen).unsent += 1;
                continue;
            };
            let (client, places) = (Arc::clone(&self), Arc::clone(&places));
            let came = Instant::now();
            tokio::spawn(async move {
                // It is never closed.
                let _place = places.acquire_owned().await;
                client.ask(came).await;
                drop(in_line);
            });
        }
        // Whoever has the whole line is alone in it.
        let all = u32::try_from(2 * self.load.connections).unwrap_or(u32::MAX);
        let _ = timeout(2 * PATIENCE, line.acquire_many(all)).await;
    }

    /// One request of a client that came then; how long it should wait where it was refused.
    async fn ask(&self, came: Instant) -> Option<Duration> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let leaves = self.load.leaves > 0 && index % self.load.leaves == self.load.leaves - 1;
        let patience = match leaves {
            true => Duration::from_millis((index * 7 % LEAVES_MS) as u64),
            false => PATIENCE,
        };
        let idle = locked(&self.idle).pop();
        let mut connection = idle.unwrap_or_default();
        let request = &self.load.requests[index % self.load.requests.len()];
        let exchange = connection.exchange(&self.load.address, request);
        let result = timeout(patience, exchange).await;
        let took = came.elapsed().as_secs_f64() * 1e3;
        let mut seen = locked(&self.seen);
        let fault = match result {
            Err(_) if leaves => {
                seen.left += 1;
                return None;
            }
            Err(_) => format!("no answer in {PATIENCE:?}"),
            Ok(Err(error)) => format!("connection: {error}"),
            Ok(Ok(answer)) => {
                if !answer.closes {
                    locked(&self.idle).push(connection);
                }
                match (answer.status, answer.retry_after) {
                    (200..=299, _) => {
                        seen.accepted.push(took);
                        return None;
                    }
                    (429 | 503, Some(wait)) => {
                        seen.refused.push(took);
                        return Some(wait);
                    }
                    (status @ (429 | 503), None) => format!("status {status} without retry-after"),
                    (status, _) => format!("status {status}"),
                }
            }
        };
        *seen.faults.entry(fault).or_default() += 1;
        None
    }
}

/// The time between two who know nothing of each other.
pub(super) fn gap(random: &mut Random, rate: f64) -> Duration {
    const STEPS: usize = 1 << 30;
    let uniform = (random.below(STEPS) + 1) as f64 / STEPS as f64;
    Duration::from_secs_f64(-uniform.ln() / rate)
}

/// A connection that is opened when it is first needed.
#[derive(Default)]
pub(super) struct Connection {
    stream: Option<TcpStream>,
    bytes: Vec<u8>,
}

impl Connection {
    /// One request and its answer. Who drops the future has left the server.
    pub(super) async fn exchange(&mut self, address: &str, request: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(request).await?;
        self.bytes.clear();
        loop {
            if stream.read_buf(&mut self.bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(answer) = Answer::whole(&self.bytes) {
                self.stream = Some(stream);
                return Ok(answer);
            }
        }
    }

    /// The bytes of the last answer, its head included.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn gaps_are_spread_as_those_of_independent_arrivals() {
        let mut random = Random(1);
        let gaps: Vec<f64> =
            (0..20_000).map(|_| gap(&mut random, 50.0).as_secs_f64() * 50.0).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        // One in e is longer than the mean.
        let long = gaps.iter().filter(|gap| **gap > 1.0).count() as f64 / gaps.len() as f64;
        assert!((long - (-1f64).exp()).abs() < 0.015, "{long}");
    }

    /// A server whose connections each answer request by request with `answers`, again and again;
    /// an empty one ends the connection.
    fn server(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    for answer in answers.iter().cycle() {
                        let asked = stream.read(&mut bytes).is_ok_and(|count| count > 0);
                        if !asked || answer.is_empty() {
                            return;
                        }
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn seen(answers: &'static [&'static str], arrivals: Arrivals) -> Seen {
        let requests = vec![post("/", None, b"{}")].into();
        let (connections, leaves, length) = (64, 0, Duration::from_millis(300));
        let address = server(answers);
        let load = Load { address, requests, arrivals, connections, leaves, length };
        let ([seen], _) = run([load]).unwrap();
        seen
    }

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const BUSY: &str =
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
    const MUTE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn answers_refusals_and_broken_connections_are_told_apart() {
        let broken = seen(&[OK, "", OK], Arrivals::Closed);
        let cut = broken.faults.iter().find(|(fault, _)| fault.starts_with("connection"));
        assert!(cut.is_some_and(|(_, count)| *count > 0), "{:?}", broken.faults);
        assert!(broken.accepted.len() > 1 && !broken.is_sound());
        let refused = seen(&[BUSY], Arrivals::Open(100.0));
        assert!(refused.accepted.is_empty() && refused.refused.len() > 3 && refused.is_sound());
        let unsaid = seen(&[MUTE], Arrivals::Open(100.0));
        assert!(unsaid.refused.is_empty() && !unsaid.is_sound(), "{}", unsaid.trouble());
    }

    /// However slow the machine is: who finds no place in the line has come too.
    #[test]
    fn an_open_load_comes_as_often_as_it_says() {
        let seen = seen(&[OK], Arrivals::Open(1000.0));
        let came = seen.accepted.len() + seen.unsent;
        assert!((240..360).contains(&came), "{came}{}", seen.trouble());
    }
}
