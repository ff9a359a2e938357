//! The node as a whole: its listeners, and how they start and stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::middleware::from_fn_with_state;
use gw_artifact::Digest;
use gw_deploy::Deployments;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::ServerConfig;
use crate::admin::Admin;
use crate::cache::Cache;
use crate::handle::Gateway;
use crate::handle::access::{Log, log};
use crate::handle::admit::Admission;
use crate::handle::auth::{Keys, authenticate};
use crate::handle::request_id::RequestIds;
use crate::listen::listen;
use crate::metrics::HttpMetrics;
use crate::node::Node;

/// Why a node does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Anybody could use the node, or nobody.
    #[error(
        "{address} is reachable from other machines, so `{key}` must hold at least one key's \
         SHA-256 digest; or listen on 127.0.0.1"
    )]
    NoKeys {
        /// The listener's address.
        address: SocketAddr,
        /// The configuration key that is empty.
        key: &'static str,
    },
    /// A listener has no address.
    #[error("a listening socket is unusable")]
    Listener(#[source] io::Error),
}

/// Serves until `shutdown`; then accepts no more, answers what it has begun, and returns.
///
/// `registry` holds the metrics of the other layers; those of this one are added to it. Requests
/// that are not over after [`ServerConfig::drain`] are cut off. The admin listener stays open
/// until the main one is drained, so the node can be watched to its end.
///
/// # Errors
/// [`ServeError::NoKeys`] where a listener is reachable from other machines and takes no key.
pub async fn serve(
    listener: TcpListener,
    admin: Option<TcpListener>,
    deployments: Arc<Deployments>,
    config: ServerConfig,
    mut registry: Registry,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let keys = api_keys(address(&listener)?, &config)?;
    let admin_keys = match &admin {
        Some(admin) => {
            Some(self::keys(address(admin)?, &config.admin_keys, "admin_keys", usize::MAX)?)
        }
        None => None,
    };
    let metrics = HttpMetrics::register(&mut registry);
    let cache = Cache::new(&config, metrics.clone());
    let node = Arc::new(Node {
        deployments: Arc::clone(&deployments),
        draining: AtomicBool::new(false),
        registry,
        cache: Arc::clone(&cache),
        http: metrics.clone(),
    });
    let gateway = Arc::new(Gateway {
        deployments: Arc::clone(&deployments),
        keys: Arc::clone(&keys),
        admission: Admission::new(&config),
        cache,
        metrics: metrics.clone(),
        ids: RequestIds::default(),
    });
    let logged = |route| {
        let log_of = Log { ids: RequestIds::default(), metrics: metrics.clone(), route };
        from_fn_with_state(Arc::new(log_of), log)
    };
    let routes = node
        .metrics()
        .layer(from_fn_with_state(keys, authenticate))
        .merge(node.probes())
        .layer(logged(None))
        .merge(Router::new().fallback(Gateway::handle).with_state(gateway));
    let (drained, admin_stop) = watch::channel(());
    let main = async {
        let stop = async {
            shutdown.await;
            node.draining.store(true, Ordering::Relaxed);
            tracing::info!("draining");
        };
        let open = metrics.connections.clone();
        if !listen(listener, &config, open, routes, stop).await {
            tracing::warn!(drain = ?config.drain, "cut off requests that were not over in time");
        }
        drop(drained);
    };
    let admin = async {
        let Some((admin, keys)) = admin.zip(admin_keys) else { return };
        let routes = Admin::new(deployments, config.bundle_bytes_max.0)
            .routes(node.metrics())
            .layer(from_fn_with_state(keys, authenticate))
            .merge(node.probes())
            .layer(logged(Some("admin")));
        let mut stop = admin_stop;
        let stop = async move {
            // Nothing is ever sent: the end of the sender is the signal.
            let _ = stop.changed().await;
        };
        listen(admin, &config, metrics.connections.clone(), routes, stop).await;
    };
    futures::join!(main, admin);
    Ok(())
}

/// Whether [`serve`] would take a main listener at `address`, for whoever wants to know before
/// work that would be in vain.
///
/// # Errors
/// [`ServeError::NoKeys`] where it would not.
pub fn check_keys(address: SocketAddr, config: &ServerConfig) -> Result<(), ServeError> {
    api_keys(address, config).map(drop)
}

fn api_keys(address: SocketAddr, config: &ServerConfig) -> Result<Arc<Keys>, ServeError> {
    keys(address, &config.api_keys, "api_keys", config.requests_per_tenant_max)
}

fn keys(
    address: SocketAddr,
    digests: &[Digest],
    key: &'static str,
    requests_max: usize,
) -> Result<Arc<Keys>, ServeError> {
    let keys = Keys::new(digests, address, requests_max);
    if keys.lock_everybody_out() {
        return Err(ServeError::NoKeys { address, key });
    }
    Ok(Arc::new(keys))
}

fn address(listener: &TcpListener) -> Result<SocketAddr, ServeError> {
    listener.local_addr().map_err(ServeError::Listener)
}
