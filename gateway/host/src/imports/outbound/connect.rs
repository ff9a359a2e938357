//! From a host's name to a stream of bytes: addresses, TCP, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, crypto};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::io::TokioIo;

use crate::HostError;

/// A connection, with or without TLS.
pub(super) type Stream = TokioIo<Box<dyn Bytes>>;

pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// All addresses of a host.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let unknown = |_| Error::DnsError { rcode: None, info_code: None };
    // The system resolves on a thread that may wait.
    Ok(tokio::net::lookup_host((host, port)).await.map_err(unknown)?.collect())
}

/// Connects to the first of the addresses that answers.
pub(super) async fn open(addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
    let mut failed = Error::DestinationNotFound;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small writes, such as a head and its body, are not held back.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => failed = unconnected(&error),
        }
    }
    Err(failed)
}

fn unconnected(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            Error::ConnectionTerminated
        }
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Error::DestinationIpUnroutable
        }
        _ => Error::DestinationUnavailable,
    }
}

pub(super) fn plain(stream: TcpStream) -> Stream {
    TokioIo::new(Box::new(stream))
}

/// Whom TLS trusts: the system's certificates, and those that the configuration adds.
pub(super) struct Tls(TlsConnector);

impl Tls {
    /// # Errors
    /// [`HostError::Outbound`].
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, HostError> {
        let refused = |reason: String| HostError::Outbound { reason };
        let mut added = Vec::new();
        if let Some(path) = ca_file {
            let unread = |error: &dyn std::fmt::Display| {
                let path = path.display();
                refused(format!("`ca_file` {path} in [plugins.outbound]: {error}"))
            };
            for certificate in
                CertificateDer::pem_file_iter(path).map_err(|error| unread(&error))?
            {
                added.push(certificate.map_err(|error| unread(&error))?);
            }
            if added.is_empty() {
                return Err(unread(&"it holds no certificate in PEM"));
            }
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier = Verifier::new_with_extra_roots(added, Arc::clone(&provider))
            .map_err(|error| refused(error.to_string()))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// TLS over a connection, with a host whose certificate names it.
    pub(super) async fn secure(&self, host: &str, stream: TcpStream) -> Result<Stream, Error> {
        let name = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::from(address),
            Err(_) => {
                ServerName::try_from(host.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?
            }
        };
        match self.0.connect(name, stream).await {
            Ok(stream) => Ok(TokioIo::new(Box::new(stream))),
            Err(error) => {
                // The guest learns a code only.
                tracing::debug!(host, %error, "no TLS with a host that a plugin calls");
                Err(insecure(&error))
            }
        }
    }
}

fn insecure(error: &io::Error) -> Error {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        Some(_) => Error::TlsProtocolError,
        None => unconnected(error),
    }
}
