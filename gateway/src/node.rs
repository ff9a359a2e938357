//! A node: the crates wired together, listening, and drained when it is told to end.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use gw_artifact::{FetchConfig, Fetcher};
use gw_deploy::{Deployments, Loader};
use gw_host::Host;
use gw_inference::{DeviceChoice, Models};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::progress::Shown;
use crate::report::{self, Advice};

/// Everything that loads revisions. Compiled plugins and buckets are kept below `folder`.
///
/// # Errors
/// Where the Wasm engine does not start.
pub(crate) fn loader(
    config: &Config,
    device: &DeviceChoice,
    folder: &Path,
    registry: &mut Registry,
) -> anyhow::Result<Loader> {
    let mut plugins = config.plugins.clone();
    plugins.compiled_dir.get_or_insert_with(|| folder.join("compiled"));
    plugins.seal_key.get_or_insert_with(|| folder.join("seal.key"));
    plugins.keyvalue.dir.get_or_insert_with(|| folder.join("keyvalue"));
    let fetch = FetchConfig::from_env()?;
    let mut inference = config.inference.clone();
    inference.plan_cache_dir.get_or_insert_with(|| fetch.cache_dir.join("plans"));
    Ok(Loader {
        host: Host::new(plugins, registry).context("starting the plugin host")?,
        models: Arc::new(Models::new(inference, registry)),
        fetcher: Arc::new(Fetcher::new(fetch)),
        device: device.clone(),
        progress: Arc::new(Shown::fetching()),
    })
}

/// Opens the device that the user named, for whoever wants to know before work that would be in
/// vain. What `auto` and `cpu` mean is always there.
///
/// # Errors
/// Where this machine does not have it.
pub(crate) fn check_device(device: &DeviceChoice, config: &Config) -> anyhow::Result<()> {
    if matches!(device, DeviceChoice::Gpu | DeviceChoice::Named(_)) {
        gw_inference::backend::open_backend(device, &config.inference)?;
    }
    Ok(())
}

/// Takes an address. `flag` is what the user can change where it is taken already.
///
/// # Errors
/// Where it cannot be had.
pub(crate) fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<std::net::TcpListener> {
    bind(address).with_context(|| {
        Advice::new(format!("cannot listen on {address}")).hint(format!(
            "where the port is in use, stop the program that has it, or take a free one with \
             {flag} {}",
            SocketAddr::new(address.ip(), 0)
        ))
    })
}

/// Connections that wait to be accepted. A burst of clients beyond it would be reset; the standard
/// library's own 128 is too few, and the system cuts this to what it allows.
const BACKLOG: i32 = 4096;

fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // As the standard library does: a restart need not wait for old connections to fade.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The URL under which this machine reaches a listener.
pub(crate) fn url(listener: &std::net::TcpListener) -> anyhow::Result<String> {
    let mut address = listener.local_addr()?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(format!("http://{address}"))
}

/// Runs `work` on all cores.
///
/// # Errors
/// What `work` returns.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A build or a download that still runs is not worth waiting for.
    runtime.shutdown_background();
    result
}

/// What is served, and how.
pub(crate) struct Node {
    pub(crate) listener: std::net::TcpListener,
    pub(crate) admin: Option<std::net::TcpListener>,
    pub(crate) deployments: Arc<Deployments>,
    pub(crate) models: Arc<Models>,
    pub(crate) config: gw_server::ServerConfig,
    pub(crate) registry: Registry,
}

impl Node {
    /// Prints `greeting` and serves until the process is told to end, then until what has begun
    /// is answered. Told twice, it ends at once.
    ///
    /// # Errors
    /// Where a listener fails, or the drain is cut short.
    pub(crate) async fn serve(self, greeting: String) -> anyhow::Result<()> {
        let Self { listener, admin, deployments, models, config, registry } = self;
        let listener = TcpListener::from_std(listener)?;
        let admin = admin.map(TcpListener::from_std).transpose()?;
        let mut told = Told::listen()?;
        // Whoever reads it may send a request or a signal at once: both are taken from here on.
        report::print(greeting)?;
        let (begin_drain, drain) = oneshot::channel::<()>();
        let shutdown = async {
            // The sender goes only when the node does.
            let _ = drain.await;
        };
        let serving = async {
            gw_server::serve(listener, admin, deployments, config, registry, shutdown).await?;
            // A device that still computes while the process ends takes its driver down with it.
            models.drain().await;
            Ok(())
        };
        tokio::pin!(serving);
        tokio::select! {
            ended = &mut serving => return ended,
            () = told.again() => {}
        }
        report::note("draining: what has begun is answered; once more to end at once");
        // Whoever serves holds the receiver.
        let _ = begin_drain.send(());
        tokio::select! {
            ended = &mut serving => ended,
            () = told.again() => bail!("ended before everything was answered"),
        }
    }
}

/// SIGINT and SIGTERM, or Ctrl-C where there are no signals.
pub(crate) struct Told {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Told {
    /// From here on the process is no longer ended by them. It needs a runtime.
    ///
    /// # Errors
    /// Where the system does not allow that.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits until the process is told to end, one more time.
    pub(crate) async fn again(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_an_address_that_can_be_reached() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(url(&listener).unwrap(), format!("http://127.0.0.1:{port}"));
    }

    #[test]
    fn a_taken_address_is_named_with_the_flag_that_changes_it() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = listen(address, "--admin").unwrap_err();
        let text = report::describe(&error);
        assert!(text.contains(&format!("cannot listen on {address}")), "{text}");
        assert!(text.contains("in use") && text.contains("--admin 127.0.0.1:0"), "{text}");
    }
}
