//! Who asks: API keys, kept as their SHA-256 digests.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use gw_artifact::Digest;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use crate::error::HandleError;

/// The other header that may carry a key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Whose request it is. Tenants share no cached answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The digest of the key in hex, or `anonymous`.
    pub(crate) tenant: Arc<str>,
}

/// Who may use a listener.
pub(crate) struct Keys {
    digests: Vec<(Digest, Arc<str>)>,
    required: bool,
    anonymous: Arc<str>,
}

impl Keys {
    /// Keys for a listener at `address`: on loopback they may be left out.
    pub(crate) fn new(digests: &[Digest], address: SocketAddr) -> Self {
        Self {
            digests: digests.iter().map(|digest| (*digest, digest.hex().into())).collect(),
            required: !address.ip().is_loopback(),
            anonymous: "anonymous".into(),
        }
    }

    /// Whether nobody could ever be let in.
    pub(crate) fn lock_everybody_out(&self) -> bool {
        self.required && self.digests.is_empty()
    }

    /// Takes the key out of the headers, so that no plugin sees it, and says whose it is.
    ///
    /// Where no keys are configured the headers are left alone: they are the app's.
    pub(crate) fn admit(&self, headers: &mut HeaderMap) -> Result<Principal, HandleError> {
        if self.digests.is_empty() && !self.required {
            return Ok(Principal { tenant: Arc::clone(&self.anonymous) });
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
            return Ok(Principal { tenant: Arc::clone(&self.anonymous) });
        };
        // Digests are compared, so the time that it takes says nothing about the key.
        let digest = Digest::of(key);
        let known = self.digests.iter().find(|(known, _)| *known == digest);
        let (_, tenant) = known.ok_or(HandleError::Unauthenticated)?;
        Ok(Principal { tenant: Arc::clone(tenant) })
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
            let principal = Keys::new(&configured, address).admit(&mut sent).ok();
            assert_eq!(principal.as_ref().map(|p| &*p.tenant), tenant, "case {n}");
            assert!(configured.is_empty() || sent.is_empty(), "case {n}: a plugin sees the key");
        }
    }
}
