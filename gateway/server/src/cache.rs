//! Answers that are kept in memory, and requests for the same answer that wait together. What hooks
//! ask of models is kept and shared in the same way.
//!
//! A hit is told from the entry. Of concurrent misses for one key the first leads: it makes the
//! answer in a task of its own, so a client that goes away takes nobody's answer with it, and the
//! others wait for what it makes. Once nobody waits any more the task is dropped, and what it asks
//! of devices with it. Errors are shared with those who wait and never kept.

pub(crate) mod answer;
pub(crate) mod control;
pub(crate) mod kept;
pub(crate) mod key;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use gw_artifact::Digest;
use moka::Expiry;
use tokio::sync::watch;
use tokio::time::Instant;

use self::kept::{Keep, Kept};
use self::key::Key;
use crate::ServerConfig;
use crate::cache::answer::Answer;
use crate::cache::control::RequestControl;
use crate::error::HandleError;
use crate::metrics::{HttpMetrics, LookupResult};

/// What making an answer gives.
pub(crate) type Made<V = Answer> = Result<Arc<V>, Arc<HandleError>>;

/// How a request was answered.
#[derive(Clone, Debug)]
pub(crate) enum Served<V = Answer> {
    /// From memory.
    Hit { answer: Arc<V>, age: Duration, lifetime: Duration },
    /// By the plugin, or by the model.
    Made { answer: Arc<V>, stored: bool, collapsed: bool, forced: bool },
}

/// Cached answers, at most `cache_bytes` of them.
pub(crate) struct Cache {
    entries: moka::future::Cache<Digest, Arc<Entry>>,
    flights: Mutex<HashMap<Digest, Weak<Flight>>>,
    object_bytes_max: usize,
    waiters_max: usize,
    enabled: bool,
    metrics: HttpMetrics,
}

/// One kept answer.
struct Entry {
    /// The whole key, compared on every hit: a digest alone could lie.
    record: Bytes,
    kept: Kept,
    stored: Instant,
    lifetime: Duration,
}

/// An answer in the making; those who wait for it hold it, and nobody else.
struct Flight {
    record: Bytes,
    waiting: AtomicUsize,
    landed: watch::Receiver<Option<Landed>>,
}

/// What those who wait learn.
#[derive(Clone)]
enum Landed {
    /// Another flight had just stored it.
    Found(Arc<Entry>),
    Made {
        made: Result<Kept, Arc<HandleError>>,
        stored: bool,
    },
}

/// What a request does about its key.
enum Seat {
    Lead(watch::Sender<Option<Landed>>, Arc<Flight>),
    Wait(Arc<Flight>),
    /// The key's digest belongs to another record.
    Alone,
}

impl Cache {
    pub(crate) fn new(config: &ServerConfig, metrics: HttpMetrics) -> Arc<Self> {
        let entries = moka::future::Cache::builder()
            .max_capacity(config.cache_bytes.0)
            .weigher(|_, entry: &Arc<Entry>| u32::try_from(entry.bytes()).unwrap_or(u32::MAX))
            .expire_after(Lifetime)
            .build();
        // An entry beyond the whole capacity would be visible until the next maintenance.
        let object_bytes_max = config.cache_object_bytes_max.0.min(config.cache_bytes.0);
        Arc::new(Self {
            entries,
            flights: Mutex::default(),
            object_bytes_max: usize::try_from(object_bytes_max).unwrap_or(usize::MAX),
            waiters_max: config.cache_waiters_max,
            enabled: config.cache_bytes.0 > 0,
            metrics,
        })
    }

    /// Whether anything is ever kept.
    pub(crate) fn enabled(&self) -> bool {
        self.enabled
    }

    /// The bytes in use, after the housekeeping that is due.
    pub(crate) async fn bytes(&self) -> u64 {
        self.entries.run_pending_tasks().await;
        self.entries.weighted_size()
    }

    /// Answers from memory, or by `make`, which runs at most once for all who ask at one time.
    ///
    /// A request gives up at `deadline`; what nobody waits for any more is dropped.
    pub(crate) async fn answer<V: Keep, F>(
        self: &Arc<Self>,
        key: Key,
        lifetime: Duration,
        control: RequestControl,
        deadline: Instant,
        make: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Served<V>, Arc<HandleError>>
    where
        F: Future<Output = Made<V>> + Send + 'static,
    {
        let forced = control.no_cache || control.max_age.is_some_and(|age| age.is_zero());
        if !forced
            && let Some(entry) = self.lookup(&key, control.max_age).await
            && let Some(hit) = entry.hit()
        {
            self.metrics.lookup(LookupResult::Hit);
            return Ok(hit);
        }
        if control.only_if_cached {
            self.metrics.lookup(LookupResult::Miss);
            return Err(Arc::new(HandleError::NotCached));
        }
        if forced || control.max_age.is_some() {
            // This client wants a newer answer than others may be waiting for.
            self.metrics.lookup(LookupResult::Forced);
            let answer = make().await?;
            let stored = self.store(&key, &V::keep(Arc::clone(&answer)), lifetime).await;
            return Ok(Served::Made { answer, stored, collapsed: false, forced: true });
        }
        match self.seat(&key) {
            Seat::Lead(landing, flight) => {
                self.metrics.lookup(LookupResult::Miss);
                let departs = Arc::downgrade(&flight);
                let task = Arc::clone(self).fly(key, lifetime, make(), landing, departs);
                tokio::spawn(task);
                self.wait(&flight, deadline).await?.served(false)
            }
            Seat::Wait(flight) => {
                let _waiter = Waiter::join(&flight, self.waiters_max)?;
                self.metrics.lookup(LookupResult::Collapsed);
                match self.wait(&flight, deadline).await? {
                    Landed::Made { made: Ok(kept), .. } if !kept.shareable() => {
                        // It turned out to be that client's own; make another.
                        let answer = make().await?;
                        let (stored, collapsed, forced) = (false, false, false);
                        Ok(Served::Made { answer, stored, collapsed, forced })
                    }
                    landed => landed.served(true),
                }
            }
            Seat::Alone => {
                self.metrics.lookup(LookupResult::Mismatch);
                let answer = make().await?;
                Ok(Served::Made { answer, stored: false, collapsed: false, forced: false })
            }
        }
    }

    /// The entry of `key`, if it is still good and not older than `max_age`.
    async fn lookup(&self, key: &Key, max_age: Option<Duration>) -> Option<Arc<Entry>> {
        let entry = self.entries.get(&key.digest).await?;
        if entry.record != key.record {
            self.metrics.lookup(LookupResult::Mismatch);
            return None;
        }
        let age = entry.stored.elapsed();
        let wanted = max_age.is_none_or(|max_age| age <= max_age);
        (age < entry.lifetime && wanted).then_some(entry)
    }

    fn seat(&self, key: &Key) -> Seat {
        let mut flights = self.flights();
        // One that nobody waits for is about to be dropped.
        match flights.get(&key.digest).and_then(Weak::upgrade) {
            Some(flight) if flight.record == key.record => Seat::Wait(flight),
            Some(_) => Seat::Alone,
            None => {
                let (landing, landed) = watch::channel(None);
                let (record, waiting) = (key.record.clone(), AtomicUsize::new(0));
                let flight = Arc::new(Flight { record, waiting, landed });
                flights.insert(key.digest, Arc::downgrade(&flight));
                Seat::Lead(landing, flight)
            }
        }
    }

    /// Makes, keeps and hands out one answer, for as long as anybody waits for it.
    async fn fly<V: Keep>(
        self: Arc<Self>,
        key: Key,
        lifetime: Duration,
        make: impl Future<Output = Made<V>>,
        landing: watch::Sender<Option<Landed>>,
        flight: Weak<Flight>,
    ) {
        // Leaves the map however this ends, a panic in `make` included; then `landing` is dropped
        // unsent, which those who wait notice.
        let _departure = Departure { cache: &self, digest: key.digest, flight };
        // An earlier flight may have landed between our lookup and our seat. It stored before it
        // left the map, so looking again now cannot miss it.
        if let Some(entry) = self.lookup(&key, None).await {
            landing.send_replace(Some(Landed::Found(entry)));
            return;
        }
        let made = tokio::select! {
            made = make => made.map(V::keep),
            () = landing.closed() => return,
        };
        let stored = match &made {
            Ok(kept) => self.store(&key, kept, lifetime).await,
            Err(_) => false,
        };
        landing.send_replace(Some(Landed::Made { made, stored }));
    }

    async fn store(&self, key: &Key, kept: &Kept, policy: Duration) -> bool {
        let Some(lifetime) = kept.lifetime(policy) else { return false };
        let (record, kept) = (key.record.clone(), kept.clone());
        let entry = Entry { record, kept, stored: Instant::now(), lifetime };
        let fits = entry.bytes() <= self.object_bytes_max;
        if fits {
            self.entries.insert(key.digest, Arc::new(entry)).await;
        }
        fits
    }

    async fn wait(&self, flight: &Flight, deadline: Instant) -> Result<Landed, Arc<HandleError>> {
        let mut landed = flight.landed.clone();
        let landed = tokio::time::timeout_at(deadline, landed.wait_for(Option::is_some)).await;
        match landed {
            Ok(Ok(landed)) => Ok(landed.clone().expect("waited until it is there")),
            Ok(Err(_)) => {
                let reason = "the task that made the answer ended without one".to_owned();
                Err(Arc::new(HandleError::Panicked { reason }))
            }
            Err(_) => Err(Arc::new(HandleError::DeadlinePassed)),
        }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Digest, Weak<Flight>>> {
        // Every critical section is one insertion or removal, so a poisoned lock is still good.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        self.record.len() + self.kept.bytes()
    }

    fn hit<V: Keep>(&self) -> Option<Served<V>> {
        let (answer, age) = (V::kept(&self.kept)?, self.stored.elapsed());
        Some(Served::Hit { answer, age, lifetime: self.lifetime })
    }
}

impl Landed {
    fn served<V: Keep>(self, collapsed: bool) -> Result<Served<V>, Arc<HandleError>> {
        let served = match self {
            Self::Found(entry) => entry.hit(),
            Self::Made { made, stored } => V::kept(&made?).map(|answer| {
                let forced = false;
                Served::Made { answer, stored, collapsed, forced }
            }),
        };
        // Records say which type they are of, and whole records are compared.
        Ok(served.expect("one key leads to values of one type"))
    }
}

/// Takes a flight out of the map.
struct Departure<'c> {
    cache: &'c Cache,
    digest: Digest,
    flight: Weak<Flight>,
}

impl Drop for Departure<'_> {
    fn drop(&mut self) {
        let mut flights = self.cache.flights();
        // Once nobody waited another may have taken its place.
        if flights.get(&self.digest).is_some_and(|flight| flight.ptr_eq(&self.flight)) {
            flights.remove(&self.digest);
        }
    }
}

/// One who waits; leaving in any way makes room.
struct Waiter<'f>(&'f Flight);

impl<'f> Waiter<'f> {
    fn join(flight: &'f Flight, waiters_max: usize) -> Result<Self, Arc<HandleError>> {
        let waiter = Self(flight);
        if flight.waiting.fetch_add(1, Ordering::Relaxed) < waiters_max {
            return Ok(waiter);
        }
        Err(Arc::new(HandleError::Saturated { what: "cache_waiters_max" }))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets moka free entries whose time is over. What is told to clients is decided by the entry's
/// own deadline, which is exact.
struct Lifetime;

/// A manifest may ask for ages that a timer cannot hold; no process lives as long as this.
const LIFETIME_MAX: Duration = Duration::from_hours(365 * 24);

impl Expiry<Digest, Arc<Entry>> for Lifetime {
    fn expire_after_create(
        &self,
        _: &Digest,
        entry: &Arc<Entry>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(entry.lifetime.min(LIFETIME_MAX))
    }

    fn expire_after_update(
        &self,
        _: &Digest,
        entry: &Arc<Entry>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.lifetime.min(LIFETIME_MAX))
    }
}

#[cfg(test)]
mod tests;
