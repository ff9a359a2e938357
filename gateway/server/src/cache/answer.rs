//! What a plugin answered, as far as it can be passed on, kept and told again.

#[cfg(test)]
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gw_host::Timings;
use http::header::{SET_COOKIE, VARY};
use http::{HeaderMap, StatusCode};

use crate::cache::control::ResponseControl;

/// A whole answer; shared by all who wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) timings: Timings,
    /// How long the plugins took by the clock on the wall.
    pub(crate) took: Duration,
    /// The plugins that were left out, which make it an answer for one time.
    pub(crate) skipped: Vec<String>,
}

impl Answer {
    /// Whether one client's answer may be given to another who asked the same.
    pub(crate) fn shareable(&self) -> bool {
        let control = ResponseControl::parse(&self.headers);
        let own = control.private || control.no_store || self.headers.contains_key(SET_COOKIE);
        !own && self.skipped.is_empty()
    }

    /// For how long it may be kept, at most `policy`.
    pub(crate) fn lifetime(&self, policy: Duration) -> Option<Duration> {
        let varies = self.headers.get_all(VARY).iter().any(|value| value.as_bytes() == b"*");
        if self.status != StatusCode::OK || !self.shareable() || varies {
            return None;
        }
        let own = ResponseControl::parse(&self.headers).max_age.unwrap_or(policy);
        Some(own.min(policy)).filter(|lifetime| !lifetime.is_zero())
    }

    /// Roughly what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        /// Map entries and bookkeeping of the cache, estimated generously.
        const OVERHEAD: usize = 512;
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        OVERHEAD + self.body.len() + headers.map(|bytes| bytes + 64).sum::<usize>()
    }

    #[cfg(test)]
    pub(crate) fn text(text: &str) -> Arc<Self> {
        Self::with(text, &[])
    }

    #[cfg(test)]
    pub(crate) fn with(text: &str, headers: &[(http::HeaderName, &str)]) -> Arc<Self> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        Arc::new(Self {
            status: StatusCode::OK,
            headers: headers.collect(),
            body: Bytes::copy_from_slice(text.as_bytes()),
            timings: Timings::default(),
            took: Duration::ZERO,
            skipped: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use http::header::CACHE_CONTROL;

    use super::*;

    #[test]
    fn an_answer_is_kept_only_where_it_and_the_route_allow() {
        struct Case(&'static [(HeaderName, &'static str)], Option<u64>);
        let cases = [
            Case(&[], Some(600)),
            Case(&[(CACHE_CONTROL, "max-age=60")], Some(60)),
            Case(&[(CACHE_CONTROL, "max-age=6000")], Some(600)),
            Case(&[(CACHE_CONTROL, "s-maxage=30, max-age=60")], Some(30)),
            Case(&[(CACHE_CONTROL, "max-age=0")], None),
            Case(&[(CACHE_CONTROL, "no-cache")], None),
            Case(&[(CACHE_CONTROL, "no-store")], None),
            Case(&[(CACHE_CONTROL, "public"), (CACHE_CONTROL, "Private")], None),
            Case(&[(SET_COOKIE, "a=b")], None),
            Case(&[(VARY, "*")], None),
            Case(&[(VARY, "accept")], Some(600)),
        ];
        for Case(headers, seconds) in cases {
            let lifetime = Answer::with("x", headers).lifetime(Duration::from_mins(10));
            assert_eq!(lifetime, seconds.map(Duration::from_secs), "{headers:?}");
        }
        let mut error = Answer::text("x").as_ref().clone();
        error.status = StatusCode::BAD_REQUEST;
        assert_eq!(error.lifetime(Duration::from_mins(10)), None);
        let mut poorer = Answer::text("x").as_ref().clone();
        poorer.skipped = vec!["auth".to_owned()];
        assert_eq!(poorer.lifetime(Duration::from_mins(10)), None);
    }
}
