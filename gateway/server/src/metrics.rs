//! What is counted, under names that do not change.
//!
//! | metric | type | labels |
//! |---|---|---|
//! | `gw_http_requests_total` | counter | `route`, `method`, `code` |
//! | `gw_http_request_seconds` | histogram | `route` |
//! | `gw_http_shed_total` | counter | `route`, `reason` |
//! | `gw_http_in_flight` | gauge | |
//! | `gw_http_connections` | gauge | |
//! | `gw_cache_lookups_total` | counter | `result` |
//! | `gw_cache_bytes` | gauge | |
//! | `gw_fallbacks` | gauge | |
//! | `gw_tasks` | gauge | |
//!
//! A route is the pattern of a manifest, or `none`; a method is one of the known ones, or `other`.
//! So the number of series does not depend on what clients send.

use std::time::Duration;

use http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The metrics of the request path; a clone shares them.
#[derive(Clone)]
pub(crate) struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    shed: Family<ShedLabels, Counter>,
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Gauge,
    lookups: Family<LookupLabels, Counter>,
    pub(crate) cache_bytes: Gauge,
    pub(crate) fallbacks: Gauge,
    pub(crate) tasks: Gauge,
}

/// The route label of requests that no route answers.
pub(crate) const NO_ROUTE: &str = "none";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabels {
    route: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    result: &'static str,
}

/// What became of a request at the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LookupResult {
    /// Answered from memory.
    Hit,
    /// Led to a run of the plugin.
    Miss,
    /// Waited for the run of another request.
    Collapsed,
    /// Asked for a newer answer than the kept one.
    Forced,
    /// The route or the request rules the cache out.
    Bypass,
    /// Two different requests have one digest, which should never happen.
    Mismatch,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(request_seconds),
            shed: Family::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            lookups: Family::default(),
            cache_bytes: Gauge::default(),
            fallbacks: Gauge::default(),
            tasks: Gauge::default(),
        }
    }
}

impl HttpMetrics {
    /// Registers every metric under its full name.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = metrics.clone();
        registry.register("gw_http_requests", "Requests, by route and status", m.requests);
        registry.register("gw_http_request_seconds", "From head to whole answer", m.seconds);
        registry.register("gw_http_shed", "Requests refused for too much at once", m.shed);
        registry.register("gw_http_in_flight", "Requests being handled", m.in_flight);
        registry.register("gw_http_connections", "Open connections", m.connections);
        registry.register("gw_cache_lookups", "Requests at the cache, by outcome", m.lookups);
        registry.register("gw_cache_bytes", "Memory of cached answers", m.cache_bytes);
        registry.register(
            "gw_fallbacks",
            "Apps that another revision answers than the one that is wanted",
            m.fallbacks,
        );
        registry.register("gw_tasks", "Tasks of the asynchronous runtime that live", m.tasks);
        metrics
    }

    pub(crate) fn handled(&self, route: &str, method: &Method, code: u16, took: Duration) {
        let route = route.to_owned();
        let labels = RequestLabels { route: route.clone(), method: method_label(method), code };
        self.requests.get_or_create(&labels).inc();
        self.seconds.get_or_create(&RouteLabels { route }).observe(took.as_secs_f64());
    }

    /// A request was turned away for too much at once; `reason` is what was full.
    pub(crate) fn shed(&self, route: &str, reason: &'static str) {
        self.shed.get_or_create(&ShedLabels { route: route.to_owned(), reason }).inc();
    }

    pub(crate) fn lookup(&self, result: LookupResult) {
        self.lookups.get_or_create(&LookupLabels { result: result.label() }).inc();
    }
}

/// From 0.1 ms, a cache hit, doubling to 13 s, past the time limit of most plugins.
fn request_seconds() -> Histogram {
    Histogram::new((0..18).map(|power| 0.0001 * f64::from(1 << power)))
}

/// Clients may make up methods; these are the ones that are told apart.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

impl LookupResult {
    fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Forced => "forced",
            Self::Bypass => "bypass",
            Self::Mismatch => "mismatch",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_stable() {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        metrics.handled("/embed", &Method::POST, 200, Duration::from_millis(1));
        metrics.handled(NO_ROUTE, &Method::TRACE, 404, Duration::from_millis(1));
        metrics.shed("/embed", "queue_max");
        metrics.lookup(LookupResult::Hit);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let mut series: Vec<&str> = text
            .lines()
            .filter(|line| !line.contains("_bucket") && !line.contains("_sum{"))
            .collect();
        // Series of one family come in any order.
        series.sort_unstable();
        insta::assert_snapshot!(series.join("\n"));
    }
}
