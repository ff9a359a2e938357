//! Outbound `wasi:http`: requests that a guest sends, to the hosts that its plugin was granted.
//!
//! Every request is checked by itself, those with which a guest follows a redirect included:
//! scheme, host and port must be granted by `http` in the manifest. A name is resolved once, and the
//! connection goes to an address that was checked, so a name that changes its mind gains nothing.
//! Addresses that are not public are refused unless the plugin has `private_network = true`.
//!
//! What is under way belongs to the instance and ends with it, at the deadline of the request that
//! the guest answers.

mod address;
mod body;
mod connect;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gw_artifact::manifest::canonical_host;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use self::body::Bounded;
use self::connect::Tls;
use crate::HostError;
use crate::imports::log::Log;
use crate::metrics::Reached;
use crate::plugin::Grants;

/// Section `[plugins.outbound]` of the node's configuration: the requests that plugins send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboundConfig {
    /// How many connections may be open at once, all plugins together; one more waits. Default 256.
    pub connections_max: usize,
    /// How long a connection may take: the wait for its turn, the name, TCP and TLS. Default 10 s.
    #[serde(with = "gw_artifact::duration")]
    pub connect_timeout: Duration,
    /// The largest body that a guest may send. Default 8 MiB.
    #[serde(with = "gw_artifact::size")]
    pub request_bytes_max: usize,
    /// The largest body that a guest may be sent. Default 32 MiB.
    #[serde(with = "gw_artifact::size")]
    pub response_bytes_max: usize,
    /// Certificates in PEM that are trusted beside the system's: those of a private authority.
    pub ca_file: Option<PathBuf>,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            connections_max: 256,
            connect_timeout: Duration::from_secs(10),
            request_bytes_max: 8 << 20,
            response_bytes_max: 32 << 20,
            ca_file: None,
        }
    }
}

/// The head of a response may be this large; servers send some KiB.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What sends requests, for all plugins of a node.
pub(crate) struct Client {
    config: OutboundConfig,
    connections: Arc<Semaphore>,
    tls: Tls,
}

impl Client {
    /// Reads the certificates that are trusted.
    ///
    /// # Errors
    /// [`HostError::Outbound`].
    pub(crate) fn new(config: &OutboundConfig) -> Result<Self, HostError> {
        Ok(Self {
            config: config.clone(),
            connections: Arc::new(Semaphore::new(
                config.connections_max.min(Semaphore::MAX_PERMITS),
            )),
            tls: Tls::new(config.ca_file.as_deref())?,
        })
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    secure: bool,
    /// As [`canonical_host`] spells it.
    host: String,
    port: u16,
}

impl Target {
    fn of(uri: &Uri) -> Option<Self> {
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let authority = uri.authority()?;
        // With a user before it, or with a port that is none, the rest is something else.
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" if secure => 443,
            "" => 80,
            rest => rest.strip_prefix(':')?.parse().ok()?,
        };
        Some(Self { secure, host: canonical_host(authority.host())?, port })
    }
}

/// As a manifest would grant it.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { secure, host, port } = self;
        let scheme = if *secure { "https" } else { "http" };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

/// The requests of one instance.
pub(crate) struct Outbound {
    grants: Arc<Grants>,
    log: Log,
}

/// A response, and what moves its bytes.
type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl Outbound {
    pub(crate) fn new(grants: Arc<Grants>, log: Log) -> Self {
        Self { grants, log }
    }

    /// Where the request may go, and who sends it.
    fn permitted(&self, uri: &Uri) -> Result<(Target, Arc<Client>), Error> {
        let target = Target::of(uri).ok_or(Error::HttpRequestUriInvalid)?;
        let reach = &self.grants.reach;
        let Target { secure, host, port } = &target;
        match &reach.client {
            Some(client) if reach.http.iter().any(|g| g.allows(*secure, host, *port)) => {
                Ok((target, Arc::clone(client)))
            }
            _ => {
                self.log.refused(&format!(
                    "a request to {target}: `http` of the plugin in gw.toml does not grant it"
                ));
                Err(Error::HttpRequestDenied)
            }
        }
    }
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = wasmtime_wasi_http::Result<Sent>> + Send> {
        let permitted = self.permitted(request.uri());
        let private = self.grants.reach.private_network;
        let (grants, log) = (Arc::clone(&self.grants), self.log.clone());
        Box::new(async move {
            let sent = async {
                let (target, client) = permitted?;
                let sending = Sending { client, target, private, log };
                sending.send(request, options.unwrap_or_default()).await
            };
            let sent = sent.await;
            if let Some(metrics) = &grants.reach.metrics {
                metrics.sent(&grants.reach.plugin, outcome(&sent));
            }
            sent
        })
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        body::error_code(error)
    }
}

fn outcome(sent: &Result<Sent, Error>) -> Reached {
    match sent {
        Ok(_) => Reached::ok,
        Err(
            Error::HttpRequestDenied
            | Error::DestinationIpProhibited
            | Error::HttpRequestUriInvalid
            | Error::HttpRequestMethodInvalid,
        ) => Reached::refused,
        Err(_) => Reached::failed,
    }
}

/// One request on its way.
struct Sending {
    client: Arc<Client>,
    target: Target,
    /// Whether addresses that are not public are granted.
    private: bool,
    log: Log,
}

impl Sending {
    async fn send(
        self,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Sent, Error> {
        let request = self.prepared(request)?;
        let config = &self.client.config;
        let connect_timeout = options
            .connect_timeout
            .map_or(config.connect_timeout, |asked| asked.min(config.connect_timeout));
        let connected = timeout(connect_timeout, self.connect()).await;
        let (mut sender, driver) = connected.map_err(|_| Error::ConnectionTimeout)??;
        let responded = sender.send_request(request);
        let response = match options.first_byte_timeout {
            Some(time) => {
                timeout(time, responded).await.map_err(|_| Error::ConnectionReadTimeout)?
            }
            None => responded.await,
        }?;
        // The buffer of a connection is no exact limit: what arrives at once may be longer.
        let fields = response.headers().iter();
        let head: usize = fields.map(|(name, value)| name.as_str().len() + value.len()).sum();
        if head > HEAD_BYTES_MAX {
            return Err(Error::HttpResponseHeaderSectionSize(None));
        }
        let (max, idle) = (config.response_bytes_max, options.between_bytes_timeout);
        let response = response.map(|body| Bounded::response(body, max, idle).boxed_unsync());
        Ok((response, Box::new(driver)))
    }

    /// The request as it goes over a connection to the target itself.
    fn prepared(&self, request: Request<WasiBody>) -> Result<Request<Bounded<WasiBody>>, Error> {
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let max = self.client.config.request_bytes_max;
        let mut request = request.map(|body| Bounded::request(body, max));
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
        Ok(request)
    }

    /// A connection of this request's own, and what drives it. It counts as one until it ends.
    async fn connect(&self) -> Result<Connection, Error> {
        let Self { client, target, .. } = self;
        let permit = Arc::clone(&client.connections).acquire_owned().await;
        let permit = permit.map_err(|_| Error::ConnectionLimitReached)?;
        let addresses = connect::resolve(&target.host, target.port).await?;
        let allowed: Vec<_> = addresses
            .into_iter()
            .filter(|address| address::may_connect(address.ip(), self.private))
            .collect();
        if allowed.is_empty() {
            self.log.refused(&format!(
                "a request to {target}: its address is not public; `private_network = true` of \
                 the plugin in gw.toml grants such"
            ));
            return Err(Error::DestinationIpProhibited);
        }
        let stream = connect::open(&allowed).await?;
        let stream = match target.secure {
            true => client.tls.secure(&target.host, stream).await?,
            false => connect::plain(stream),
        };
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX);
        let (sender, connection) = builder.handshake(stream).await?;
        // Its own task, because it has to move while the request waits and while the body is read;
        // it ends when either is dropped.
        let driver = wasmtime_wasi::runtime::spawn(async move {
            let ended = connection.await;
            drop(permit);
            ended
        });
        Ok((sender, Box::pin(async move { driver.await.map_err(Error::from) })))
    }
}

type Connection = (
    hyper::client::conn::http1::SendRequest<Bounded<WasiBody>>,
    Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>,
);

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> Option<String> {
        Target::of(&uri.parse().ok()?).map(|target| target.to_string())
    }

    #[test]
    fn a_target_is_what_is_connected_to_and_nothing_else() {
        let cases = [
            ("https://API.example.com/x?y", Some("https://api.example.com:443")),
            ("http://api.example.com:8080", Some("http://api.example.com:8080")),
            ("http://[::0001]:80/", Some("http://[::1]:80")),
            ("http://127.0.0.1", Some("http://127.0.0.1:80")),
            ("http://granted.com@127.0.0.1/", None),
            ("http://granted.com:80@127.0.0.1/", None),
            ("http://127.1/", None),
            ("http://2130706433/", None),
            ("http://a.com:/", None),
            ("http://a.com:99999/", None),
            ("/path", None),
        ];
        for (uri, expected) in cases {
            assert_eq!(target(uri).as_deref(), expected, "{uri}");
        }
    }
}
