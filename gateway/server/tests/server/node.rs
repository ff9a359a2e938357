//! A node on real sockets, and a real client before it.

#[path = "../../../deploy/tests/support/guests.rs"]
pub(crate) mod guests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use gw_artifact::bundle::BundleContent;
use gw_artifact::keys::SigningKey;
use gw_artifact::manifest::Manifest;
use gw_artifact::{FetchConfig, Fetcher, NoProgress};
use gw_deploy::{DeployConfig, Deployments, Loader};
use gw_host::{Host, HostConfig};
use gw_inference::{DeviceChoice, InferenceConfig, Models};
use gw_server::{ServeError, ServerConfig, serve};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running node.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) key: SigningKey,
    pub(crate) deployments: Arc<Deployments>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) served: JoinHandle<Result<(), ServeError>>,
    _dir: TempDir,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        let error = &body["error"];
        assert_eq!(error["request_id"], self.header("x-request-id"));
        error["code"].as_str().unwrap().to_owned()
    }
}

impl Node {
    /// A node that serves this app.
    pub(crate) async fn serving(
        config: ServerConfig,
        manifest: &str,
        content: BundleContent,
    ) -> Self {
        let node = Self::empty(config).await;
        node.install(manifest, content).await;
        node
    }

    /// Serves this app from now on.
    pub(crate) async fn install(&self, manifest: &str, content: BundleContent) {
        let manifest = Manifest::parse(manifest, "gw.toml").unwrap();
        self.deployments.install(manifest, content, PathBuf::new()).await.unwrap();
    }

    /// A node on which nothing is deployed.
    pub(crate) async fn empty(config: ServerConfig) -> Self {
        Self::empty_with(config, InferenceConfig::default()).await
    }

    /// As [`Self::empty`], with limits for its models.
    pub(crate) async fn empty_with(config: ServerConfig, inference: InferenceConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap();
        let mut registry = Registry::default();
        let host = HostConfig { instances_max: 4, ..HostConfig::default() };
        let loader = Loader {
            host: Host::new(host, &mut registry).unwrap(),
            models: Arc::new(Models::new(inference, &mut registry)),
            fetcher: Arc::new(Fetcher::new(FetchConfig::from_env().unwrap())),
            device: DeviceChoice::Cpu,
            progress: Arc::new(NoProgress),
        };
        let (state, trusted) = (dir.path().join("state"), vec![key.public()]);
        let deployments =
            Deployments::open(state, trusted, loader, DeployConfig::default()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, admin) =
            (listener.local_addr().unwrap(), admin_listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let serving = Arc::clone(&deployments);
        let served = tokio::spawn(async move {
            serve(listener, Some(admin_listener), serving, config, registry, shutdown).await
        });
        Self { address, admin, key, deployments, stop: Some(stop), served, _dir: dir }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.address, "GET", path, &[], Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.post_with(path, body, &[]).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let body = Bytes::copy_from_slice(body.as_bytes());
        send(self.address, "POST", path, headers, body).await
    }

    pub(crate) async fn admin(
        &self,
        method: &'static str,
        path: &str,
        body: Bytes,
    ) -> (u16, Value) {
        let answer = send(self.admin, method, path, &[], body).await;
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    }

    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = send(self.admin, "GET", "/metrics", &[], Bytes::new()).await.body;
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }
}

pub(crate) async fn send(
    address: SocketAddr,
    method: &'static str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    let mut request =
        http::Request::builder().method(method).uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.to_vec()).unwrap();
    let sent = tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder();
        let config = config.http_status_as_error(false).allow_non_standard_methods(true).build();
        let response = ureq::Agent::new_with_config(config).run(request).unwrap();
        let (head, mut body) = response.into_parts();
        let body = body.read_to_string().unwrap();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    });
    sent.await.unwrap()
}

/// Writes `text` as it is and reads until the node closes.
pub(crate) async fn raw(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
