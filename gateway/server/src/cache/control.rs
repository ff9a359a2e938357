//! The header `Cache-Control`, as far as this node acts on it (RFC 9111, section 5.2).

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

/// What a request says about cached answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestControl {
    /// Neither read nor write the cache.
    pub(crate) no_store: bool,
    /// Do not read the cache.
    pub(crate) no_cache: bool,
    /// Read nothing older.
    pub(crate) max_age: Option<Duration>,
    /// Read the cache or nothing.
    pub(crate) only_if_cached: bool,
}

impl RequestControl {
    pub(crate) fn parse(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for (name, value) in directives(headers) {
            match name.to_ascii_lowercase().as_str() {
                "no-store" => control.no_store = true,
                "no-cache" => control.no_cache = true,
                "only-if-cached" => control.only_if_cached = true,
                "max-age" => control.max_age = Some(seconds(value)),
                _ => {}
            }
        }
        if !headers.contains_key(CACHE_CONTROL) {
            let pragma = headers.get(PRAGMA).and_then(|value| value.to_str().ok());
            control.no_cache = pragma.is_some_and(|text| text.eq_ignore_ascii_case("no-cache"));
        }
        control
    }
}

/// What a response says about being kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseControl {
    pub(crate) no_store: bool,
    pub(crate) private: bool,
    /// How long it is good; `no-cache` makes it zero.
    pub(crate) max_age: Option<Duration>,
}

impl ResponseControl {
    pub(crate) fn parse(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        let (mut no_cache, mut shared_max_age) = (false, None);
        for (name, value) in directives(headers) {
            match name.to_ascii_lowercase().as_str() {
                "no-store" => control.no_store = true,
                "private" => control.private = true,
                "no-cache" => no_cache = true,
                "max-age" => control.max_age = Some(seconds(value)),
                "s-maxage" => shared_max_age = Some(seconds(value)),
                _ => {}
            }
        }
        control.max_age = shared_max_age.or(control.max_age);
        if no_cache {
            control.max_age = Some(Duration::ZERO);
        }
        control
    }
}

fn directives(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|text| text.split(',')).map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        (name.trim(), value.trim().trim_matches('"'))
    })
}

/// Delta-seconds; what is not a number counts as stale, the cautious reading (section 4.2.1).
fn seconds(text: &str) -> Duration {
    let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Too many digits for the type are still a very long time.
    let seconds = if all_digits { text.parse().unwrap_or(u64::from(u32::MAX)) } else { 0 };
    Duration::from_secs(seconds.min(u64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(CACHE_CONTROL, value.parse().unwrap())])
    }

    #[test]
    fn directives_are_read_in_any_letter_case_and_order() {
        let control = RequestControl::parse(&headers("No-Cache , max-age=\"5\",ONLY-IF-CACHED"));
        assert!(control.no_cache && control.only_if_cached && !control.no_store);
        assert_eq!(control.max_age, Some(Duration::from_secs(5)));
    }

    #[test]
    fn an_age_that_is_no_number_is_stale_and_a_huge_one_is_long() {
        let max_age = |value| RequestControl::parse(&headers(value)).max_age;
        assert_eq!(max_age("max-age=-1"), Some(Duration::ZERO));
        assert_eq!(max_age("max-age="), Some(Duration::ZERO));
        assert_eq!(
            max_age("max-age=99999999999999999999999"),
            Some(Duration::from_secs(4_294_967_295))
        );
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        let mut request = HeaderMap::from_iter([(PRAGMA, "no-cache".parse().unwrap())]);
        assert!(RequestControl::parse(&request).no_cache);
        request.insert(CACHE_CONTROL, "max-age=5".parse().unwrap());
        assert!(!RequestControl::parse(&request).no_cache);
    }
}
