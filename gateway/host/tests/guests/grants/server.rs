//! Small HTTP servers on threads of their own. They end with the process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::sync::Notify;

pub(crate) struct Server {
    pub(crate) port: u16,
    /// Is told of every connection.
    pub(crate) accepted: Arc<Notify>,
    answered: Arc<AtomicUsize>,
}

impl Server {
    /// Answers a head with what follows `HTTP/1.1 `, and closes the connection.
    pub(crate) fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        Self::run(move |stream| exchange(stream, &answer).is_some())
    }

    /// Accepts, and says nothing.
    pub(crate) fn silent() -> Self {
        let mut held = Vec::new();
        Self::run(move |stream| {
            held.push(stream);
            false
        })
    }

    /// As [`Self::start`] behind the certificate of localhost, which the authority in `ca.pem`
    /// signed.
    pub(crate) fn tls(answer: &'static str) -> Self {
        let certificate = CertificateDer::from_pem_file(pem("localhost.pem")).expect("PEM");
        let key = PrivateKeyDer::from_pem_file(pem("localhost.key")).expect("PEM");
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate], key).expect("a usable key");
        let config = Arc::new(config);
        Self::run(move |stream| {
            let tls = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            exchange(StreamOwned::new(tls, stream), &|_: &str| answer.to_owned()).is_some()
        })
    }

    /// How many requests were answered.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Handles one connection after another, and counts those for which `handle` is true.
    fn run(mut handle: impl FnMut(TcpStream) -> bool + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let (accepted, answered) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (notify, count) = (Arc::clone(&accepted), Arc::clone(&answered));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                notify.notify_one();
                if handle(stream) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { port, accepted, answered }
    }
}

/// One request and its answer; none where the client goes away.
fn exchange(stream: impl Read + Write, answer: &impl Fn(&str) -> String) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let chunked = head.contains("transfer-encoding: chunked");
    let mut body = String::new();
    while chunked && !body.ends_with("0\r\n\r\n") {
        if stream.read_line(&mut body).ok()? == 0 {
            return None;
        }
    }
    let answer = format!("HTTP/1.1 {}", answer(&head));
    stream.get_mut().write_all(answer.as_bytes()).ok()?;
    stream.get_mut().flush().ok()
}

/// A file of the folder with keys.
pub(crate) fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/tls").join(name)
}
