use std::sync::atomic::AtomicUsize;

use gw_artifact::ByteSize;
use http::header::{CACHE_CONTROL, SET_COOKIE};
use tokio::sync::{Notify, Semaphore};

use super::*;

const TTL: Duration = Duration::from_mins(10);

/// A cache in front of an origin that counts its runs and can be held back.
struct Bench {
    cache: Arc<Cache>,
    runs: Arc<AtomicUsize>,
    /// A permit lets one run end.
    gate: Arc<Semaphore>,
    started: Arc<Notify>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig::default();
        change(&mut config);
        Self {
            cache: Cache::new(&config, HttpMetrics::default()),
            runs: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            started: Arc::default(),
        }
    }

    fn held() -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), ..Self::new() }
    }

    /// Asks for `key`; the origin gives `made` when the gate lets it.
    fn ask(
        &self,
        key: Key,
        control: RequestControl,
        made: Made,
    ) -> impl Future<Output = Result<Served, Arc<HandleError>>> + Send + 'static {
        let (cache, runs) = (Arc::clone(&self.cache), Arc::clone(&self.runs));
        let (gate, started) = (Arc::clone(&self.gate), Arc::clone(&self.started));
        let deadline = Instant::now() + Duration::from_mins(1);
        async move {
            let make = move || async move {
                runs.fetch_add(1, Ordering::SeqCst);
                started.notify_one();
                gate.acquire().await.unwrap().forget();
                made
            };
            cache.answer(key, TTL, control, deadline, make).await
        }
    }

    async fn get(&self, name: &str) -> Served {
        self.ask(key(name), RequestControl::default(), Ok(Answer::text(name))).await.unwrap()
    }

    async fn get_with(&self, name: &str, control: RequestControl) -> Served {
        self.ask(key(name), control, Ok(Answer::text(name))).await.unwrap()
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

fn key(name: &str) -> Key {
    let record = Bytes::copy_from_slice(name.as_bytes());
    Key { digest: Digest::of(&record), record }
}

fn is_hit(served: &Served) -> bool {
    matches!(served, Served::Hit { .. })
}

#[tokio::test]
async fn the_second_request_is_a_hit_and_runs_nothing() {
    let bench = Bench::new();
    let first = bench.get("a").await;
    assert!(matches!(first, Served::Made { stored: true, collapsed: false, .. }), "{first:?}");
    assert!(is_hit(&bench.get("a").await));
    assert!(!is_hit(&bench.get("b").await));
    assert_eq!(bench.runs(), 2);
}

#[tokio::test]
async fn a_thousand_concurrent_misses_run_the_origin_once() {
    let bench = Bench::held();
    let requests = (0..1000).map(|_| {
        let answer = Ok(Answer::text("a"));
        tokio::spawn(bench.ask(key("a"), RequestControl::default(), answer))
    });
    let requests: Vec<_> = requests.collect();
    bench.started.notified().await;
    bench.gate.add_permits(1);
    let mut collapsed_count = 0;
    for request in requests {
        match request.await.unwrap().unwrap() {
            Served::Made { answer, collapsed, stored, .. } => {
                assert_eq!((&answer.body[..], stored), (&b"a"[..], true));
                collapsed_count += usize::from(collapsed);
            }
            // Asked after the answer was stored.
            Served::Hit { .. } => collapsed_count += 1,
        }
    }
    assert_eq!((bench.runs(), collapsed_count), (1, 999));
}

#[tokio::test]
async fn a_leader_that_goes_away_takes_nobodys_answer_with_it() {
    let bench = Bench::held();
    let ask = || bench.ask(key("a"), RequestControl::default(), Ok(Answer::text("a")));
    let leader = tokio::spawn(ask());
    bench.started.notified().await;
    let follower = tokio::spawn(ask());
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    bench.gate.add_permits(1);
    follower.await.unwrap().unwrap();
    assert_eq!(bench.runs(), 1);
    assert!(is_hit(&bench.get("a").await));
}

#[tokio::test]
async fn an_error_is_shared_with_those_who_wait_and_not_kept() {
    let bench = Bench::held();
    let error = Arc::new(HandleError::RouteNotFound);
    let ask = || bench.ask(key("a"), RequestControl::default(), Err(Arc::clone(&error)));
    let leader = tokio::spawn(ask());
    bench.started.notified().await;
    // Polled once, so it has its seat before the leader ends.
    let mut follower = Box::pin(ask());
    assert!(futures::poll!(&mut follower).is_pending());
    bench.gate.add_permits(1);
    assert!(Arc::ptr_eq(&leader.await.unwrap().unwrap_err(), &error));
    assert!(Arc::ptr_eq(&follower.await.unwrap_err(), &error));
    assert_eq!(bench.runs(), 1);

    bench.gate.add_permits(1);
    assert!(!is_hit(&bench.get("a").await));
    assert_eq!(bench.runs(), 2);
}

#[tokio::test]
async fn a_panic_fails_those_who_wait_and_nobody_after_them() {
    let bench = Bench::new();
    let deadline = Instant::now() + Duration::from_mins(1);
    let make = || async { panic!("the origin broke") };
    let failed =
        bench.cache.answer::<Answer, _>(key("a"), TTL, RequestControl::default(), deadline, make);
    assert!(matches!(*failed.await.unwrap_err(), HandleError::Panicked { .. }));
    assert!(!is_hit(&bench.get("a").await));
}

#[tokio::test]
async fn a_cookie_for_one_client_reaches_no_other() {
    let bench = Bench::held();
    let ask = |cookie| {
        let answer = Answer::with("a", &[(SET_COOKIE, cookie)]);
        bench.ask(key("a"), RequestControl::default(), Ok(answer))
    };
    let leader = tokio::spawn(ask("mine"));
    bench.started.notified().await;
    let mut follower = Box::pin(ask("yours"));
    assert!(futures::poll!(&mut follower).is_pending());
    bench.gate.add_permits(2);
    leader.await.unwrap().unwrap();
    let Served::Made { answer, stored: false, collapsed: false, .. } = follower.await.unwrap()
    else {
        panic!("not an answer of its own");
    };
    assert_eq!(answer.headers[SET_COOKIE], "yours");
    assert_eq!(bench.runs(), 2);
}

#[tokio::test]
async fn more_waiters_than_allowed_are_told_to_come_back() {
    let bench =
        Bench { gate: Arc::new(Semaphore::new(0)), ..Bench::with(|c| c.cache_waiters_max = 1) };
    let ask = || bench.ask(key("a"), RequestControl::default(), Ok(Answer::text("a")));
    let leader = tokio::spawn(ask());
    bench.started.notified().await;
    let mut second = Box::pin(ask());
    assert!(futures::poll!(&mut second).is_pending());
    assert!(matches!(*ask().await.unwrap_err(), HandleError::Saturated { .. }));
    drop(second);
    let mut fourth = Box::pin(ask());
    assert!(futures::poll!(&mut fourth).is_pending(), "a waiter that left made room");
    bench.gate.add_permits(1);
    leader.await.unwrap().unwrap();
    fourth.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_told_until_its_time_is_over() {
    let bench = Bench::new();
    bench.get("a").await;
    tokio::time::advance(Duration::from_secs(599)).await;
    let Served::Hit { age, lifetime, .. } = bench.get("a").await else { panic!("no hit") };
    assert_eq!((age.as_secs(), lifetime), (599, TTL));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!is_hit(&bench.get("a").await));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_any_more_is_dropped() {
    let bench = Bench::held();
    let ask = || bench.ask(key("a"), RequestControl::default(), Ok(Answer::text("a")));
    let runs_on = || Arc::strong_count(&bench.gate) > 1;
    // One gives up at its deadline, and of two others each leaves.
    assert!(matches!(*ask().await.unwrap_err(), HandleError::DeadlinePassed));
    while runs_on() {
        tokio::task::yield_now().await;
    }
    let (leader, follower) = (tokio::spawn(ask()), tokio::spawn(ask()));
    bench.started.notified().await;
    bench.started.notified().await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(runs_on(), "another waits");
    follower.abort();
    assert!(follower.await.unwrap_err().is_cancelled());
    while runs_on() || !bench.cache.flights().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.runs(), 2);
    // Nothing of it was kept, and it is made for whoever comes next.
    bench.gate.add_permits(1);
    assert!(!is_hit(&bench.get("a").await));
    assert!(is_hit(&bench.get("a").await));
}

#[tokio::test(start_paused = true)]
async fn a_request_says_how_old_an_answer_may_be() {
    let bench = Bench::new();
    bench.get("a").await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let max_age = |seconds| RequestControl {
        max_age: Some(Duration::from_secs(seconds)),
        ..RequestControl::default()
    };
    assert!(is_hit(&bench.get_with("a", max_age(10)).await));
    let fresh = bench.get_with("a", max_age(9)).await;
    assert!(matches!(fresh, Served::Made { stored: true, forced: true, .. }), "{fresh:?}");
    let Served::Hit { age, .. } = bench.get("a").await else { panic!("no hit") };
    assert_eq!(age, Duration::ZERO, "the newer answer took the place of the older");
    let no_cache = RequestControl { no_cache: true, ..RequestControl::default() };
    assert!(!is_hit(&bench.get_with("a", no_cache).await));
}

#[tokio::test]
async fn only_if_cached_never_runs_the_origin() {
    let bench = Bench::new();
    let control = RequestControl { only_if_cached: true, ..RequestControl::default() };
    let ask = || bench.ask(key("a"), control, Ok(Answer::text("a")));
    assert!(matches!(*ask().await.unwrap_err(), HandleError::NotCached));
    bench.get("a").await;
    assert!(is_hit(&ask().await.unwrap()));
    assert_eq!(bench.runs(), 1);
}

#[tokio::test]
async fn two_records_with_one_digest_never_share_an_answer() {
    let bench = Bench::new();
    let digest = Digest::of(b"the same");
    let ask = |record: &'static str| {
        let key = Key { digest, record: Bytes::from_static(record.as_bytes()) };
        bench.ask(key, RequestControl::default(), Ok(Answer::text(record)))
    };
    ask("one").await.unwrap();
    let Served::Made { answer, .. } = ask("two").await.unwrap() else { panic!("a false hit") };
    assert_eq!(&answer.body[..], b"two");
}

#[tokio::test]
async fn two_records_with_one_digest_never_wait_together() {
    let bench = Bench::held();
    let digest = Digest::of(b"the same");
    let ask = |record: &'static str| {
        let key = Key { digest, record: Bytes::from_static(record.as_bytes()) };
        bench.ask(key, RequestControl::default(), Ok(Answer::text(record)))
    };
    let leader = tokio::spawn(ask("one"));
    bench.started.notified().await;
    bench.gate.add_permits(2);
    let Served::Made { answer, collapsed: false, .. } = ask("two").await.unwrap() else {
        panic!("collapsed");
    };
    assert_eq!(&answer.body[..], b"two");
    leader.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_over_the_limit_is_passed_on_and_not_kept() {
    let bench = Bench::with(|config| config.cache_object_bytes_max = ByteSize(600));
    let large = "x".repeat(700);
    let served = bench.get(&large).await;
    assert!(matches!(served, Served::Made { stored: false, .. }));
    assert!(!is_hit(&bench.get(&large).await));
    assert!(matches!(bench.get("small").await, Served::Made { stored: true, .. }));
}

#[tokio::test]
async fn the_cache_stays_within_its_bytes() {
    let bench = Bench::with(|config| config.cache_bytes = ByteSize(100_000));
    for n in 0..500 {
        bench.get(&format!("{n:01000}")).await;
    }
    let bytes = bench.cache.bytes().await;
    assert!((10_000..=100_000).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn an_answer_that_forbids_it_is_not_kept() {
    let bench = Bench::new();
    for _ in 0..2 {
        let answer = Answer::with("a", &[(CACHE_CONTROL, "no-store")]);
        let served = bench.ask(key("a"), RequestControl::default(), Ok(answer)).await.unwrap();
        assert!(matches!(served, Served::Made { stored: false, .. }));
    }
    assert_eq!(bench.runs(), 2);
}
