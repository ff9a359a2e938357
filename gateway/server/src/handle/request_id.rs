//! The name of one request, in logs and in `x-request-id`.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName};

/// The header that carries it, in and out.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client; longer than a UUID with a prefix.
const CHARS_MAX: usize = 128;

/// Makes ids that do not repeat within a process, and hardly ever across processes.
#[derive(Default)]
pub(crate) struct RequestIds {
    seed: RandomState,
    count: AtomicU64,
}

impl RequestIds {
    /// The id that the client sent, if it is safe to print anywhere, or a new one.
    pub(crate) fn name(&self, headers: &HeaderMap) -> String {
        let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        match sent.filter(|id| is_sane(id)) {
            Some(id) => id.to_owned(),
            None => self.next(),
        }
    }

    fn next(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{:08x}", self.seed.hash_one(count), count & 0xffff_ffff)
    }
}

fn is_sane(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !id.is_empty() && id.len() <= CHARS_MAX && id.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        let ids = RequestIds::default();
        let name =
            |sent: &str| ids.name(&HeaderMap::from_iter([(REQUEST_ID, sent.parse().unwrap())]));
        assert_eq!(name("0af7651916cd43dd-8448eb211c80319c"), "0af7651916cd43dd-8448eb211c80319c");
        for bad in ["", "a b", "a\"b", "{}", &"x".repeat(129)] {
            assert_ne!(name(bad), bad);
            assert_eq!(name(bad).len(), 24);
        }
        assert_ne!(ids.name(&HeaderMap::new()), ids.name(&HeaderMap::new()));
    }
}
