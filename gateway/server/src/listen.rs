//! Connections: accepted within a limit, served, and drained when it is time to stop.

mod patient;
mod unread;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ServerConfig;
use crate::listen::patient::Patient;
use crate::listen::unread::lend;

/// The head of a request, and the buffer of a connection, in bytes; curl and browsers stay far
/// below it.
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// Requests at once on one HTTP/2 connection, as Envoy recommends for edges.
const STREAMS_MAX: u32 = 100;
/// How long to wait after the system refused a connection, usually for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `listener` until `stop`; then waits for the requests in flight, at most
/// [`ServerConfig::drain`]. Says whether all of them ended.
pub(crate) async fn listen(
    listener: TcpListener,
    config: &ServerConfig,
    open: Gauge,
    routes: Router,
    stop: impl Future<Output = ()>,
) -> bool {
    let routes = TowerToHyperService::new(routes);
    let builder = builder(config);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (stream, place) = accepted;
        let connection = Connection {
            stream,
            builder: builder.clone(),
            watcher: graceful.watcher(),
            open: open.clone(),
            header_timeout: config.header_timeout,
            write_timeout: config.write_timeout,
            _place: place,
        };
        connections.spawn(connection.serve(routes.clone()));
    }
    drop(listener);
    let drained = timeout(config.drain, graceful.shutdown()).await.is_ok();
    connections.shutdown().await;
    drained
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn builder(config: &ServerConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .keep_alive_interval(config.header_timeout)
        .keep_alive_timeout(config.header_timeout);
    builder
}

struct Connection {
    stream: TcpStream,
    builder: auto::Builder<TokioExecutor>,
    watcher: Watcher,
    open: Gauge,
    header_timeout: Duration,
    write_timeout: Duration,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(self, routes: TowerToHyperService<Router>) {
        let _open = Counted::new(self.open);
        // Waiting for more to send only delays what is there.
        let _ = self.stream.set_nodelay(true);
        let asked = Arc::new(AtomicBool::new(false));
        let service = {
            let asked = Arc::clone(&asked);
            service_fn(move |request| {
                asked.store(true, Ordering::Relaxed);
                let (request, unread) = lend(request);
                let answer = routes.call(request);
                async move { Ok::<_, Infallible>(unread.settle(bare(answer.await?)).await) }
            })
        };
        let stream = TokioIo::new(Patient::new(self.stream, self.write_timeout));
        let connection = self.builder.serve_connection(stream, service);
        let mut connection = pin!(self.watcher.watch(connection.into_owned()));
        // The protocol is told from the first bytes, which hyper awaits without a limit.
        let first = timeout(self.header_timeout, connection.as_mut()).await;
        if first.is_err() && asked.load(Ordering::Relaxed) {
            // Errors of a connection are its client's: it went away, or spoke no HTTP.
            let _ = connection.await;
        }
    }
}

/// axum gives every whole answer its length, which these two must not have (RFC 9110, 8.6).
fn bare(mut response: Response) -> Response {
    if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response
}

/// Counts an open connection for as long as it lives.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
