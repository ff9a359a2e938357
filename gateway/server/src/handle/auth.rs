//! Who asks: API keys, kept as their SHA-256 digests; and how much each may have at once.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use gw_artifact::Digest;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::HandleError;

/// The other header that may carry a key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Whose request it is. Tenants share no cached answers.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    /// The digest of the key in hex, or `anonymous`.
    pub(crate) tenant: Arc<str>,
    /// What is left of the requests that the tenant may have at once.
    requests: Arc<Semaphore>,
}

impl Principal {
    fn new(tenant: &str, requests_max: usize) -> Self {
        let requests = Semaphore::new(requests_max.min(Semaphore::MAX_PERMITS));
        Self { tenant: tenant.into(), requests: Arc::new(requests) }
    }

    /// A place for one request among those of the tenant.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, HandleError> {
        let permit = Arc::clone(&self.requests).try_acquire_owned();
        permit.map_err(|_| HandleError::OverShare { what: "requests_per_tenant_max" })
    }
}

/// Who may use a listener.
pub(crate) struct Keys {
    known: Vec<(Digest, Principal)>,
    required: bool,
    anonymous: Principal,
}

impl Keys {
    /// Keys for a listener at `address`: on loopback they may be left out. Where that makes more
    /// than one tenant, each may have `requests_max` requests at once.
    pub(crate) fn new(digests: &[Digest], address: SocketAddr, requests_max: usize) -> Self {
        let required = !address.ip().is_loopback();
        let alone = digests.len() + usize::from(!required) <= 1;
        let requests_max = if alone { usize::MAX } else { requests_max };
        let known = digests.iter().map(|key| (*key, Principal::new(&key.hex(), requests_max)));
        let anonymous = Principal::new("anonymous", requests_max);
        Self { known: known.collect(), required, anonymous }
    }

    /// Whether nobody could ever be let in.
    pub(crate) fn lock_everybody_out(&self) -> bool {
        self.required && self.known.is_empty()
    }

    /// Takes the key out of the headers, so that no plugin sees it, and says whose it is.
    ///
    /// Where no keys are configured the headers are left alone: they are the app's.
    pub(crate) fn admit(&self, headers: &mut HeaderMap) -> Result<Principal, HandleError> {
        if self.known.is_empty() && !self.required {
            return Ok(self.anonymous.clone());
        }
        let authorization = headers.remove(AUTHORIZATION);
        let api_key = headers.remove(API_KEY);
        let bearer = authorization.as_ref().and_then(|value| {
            let (scheme, key) = value.as_bytes().split_at_checked("Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key)
        });
        let key = bearer.or_else(|| api_key.as_ref().map(http::HeaderValue::as_bytes));
        let Some(key) = key else {
            // A credential that is no key of ours is not the same as none.
            if self.required || authorization.is_some() {
                return Err(HandleError::Unauthenticated);
            }
            return Ok(self.anonymous.clone());
        };
        // Digests are compared, so the time that it takes says nothing about the key.
        let digest = Digest::of(key);
        let known = self.known.iter().find(|(known, _)| *known == digest);
        known.map(|(_, principal)| principal.clone()).ok_or(HandleError::Unauthenticated)
    }
}

/// A layer that lets in who may use the listener, and tells `access::log` who that is.
pub(crate) async fn authenticate(
    State(keys): State<Arc<Keys>>,
    mut request: Request,
    next: Next,
) -> Result<Response, HandleError> {
    let principal = keys.admit(request.headers_mut())?;
    let mut response = next.run(request).await;
    response.extensions_mut().insert(principal);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(sent: &[(HeaderName, &str)]) -> HeaderMap {
        sent.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn keys_are_needed_outside_loopback_and_checked_wherever_they_are_sent() {
        struct Case<'h>(SocketAddr, bool, &'h [(HeaderName, &'h str)], Option<&'h str>);
        let (local, public) = ("127.0.0.1:1".parse().unwrap(), "0.0.0.0:1".parse().unwrap());
        let digest = Digest::of(b"secret");
        let hex = digest.hex();
        let bearer = |text| [(AUTHORIZATION, text)];
        let cases = [
            Case(local, false, &[], Some("anonymous")),
            Case(local, false, &bearer("Bearer theirs"), Some("anonymous")),
            Case(local, true, &[], Some("anonymous")),
            Case(local, true, &bearer("Bearer secret"), Some(&hex)),
            Case(local, true, &bearer("bearer secret"), Some(&hex)),
            Case(local, true, &bearer("Bearer wrong"), None),
            Case(local, true, &bearer("Basic secret"), None),
            Case(public, true, &[], None),
            Case(public, true, &[(API_KEY, "secret")], Some(&hex)),
            Case(public, true, &[(API_KEY, "Secret")], None),
            Case(public, true, &bearer("Bearer"), None),
            Case(public, false, &bearer("Bearer secret"), None),
        ];
        for (n, Case(address, configured, sent, tenant)) in cases.into_iter().enumerate() {
            let configured = if configured { vec![digest] } else { Vec::new() };
            let mut sent = headers(sent);
            let principal = Keys::new(&configured, address, 1).admit(&mut sent).ok();
            assert_eq!(principal.as_ref().map(|p| &*p.tenant), tenant, "case {n}");
            assert!(configured.is_empty() || sent.is_empty(), "case {n}: a plugin sees the key");
        }
    }

    #[test]
    fn one_tenant_leaves_places_to_the_others_where_there_are_any() {
        struct Case(&'static str, &'static [&'static str], bool);
        // Whoever brings no key is a tenant too, where that is allowed.
        let cases = [
            Case("127.0.0.1:1", &[], false),
            Case("127.0.0.1:1", &["one"], true),
            Case("0.0.0.0:1", &["one"], false),
            Case("0.0.0.0:1", &["one", "two"], true),
        ];
        for (n, Case(address, names, limited)) in cases.into_iter().enumerate() {
            let digests: Vec<Digest> = names.iter().map(|key| Digest::of(key.as_bytes())).collect();
            let keys = Keys::new(&digests, address.parse().unwrap(), 2);
            let asks = |key: &str| keys.admit(&mut headers(&[(API_KEY, key)])).unwrap().enter();
            let first = names.first().copied().unwrap_or("");
            let held = [asks(first).unwrap(), asks(first).unwrap()];
            assert_eq!(asks(first).is_err(), limited, "case {n}");
            if let [_, other] = names {
                assert!(asks(other).is_ok(), "case {n}: another tenant's requests are its own");
            }
            drop(held);
            assert!(asks(first).is_ok(), "case {n}");
        }
    }
}
