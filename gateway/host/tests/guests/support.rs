//! A host with a model, and the guests of `tests/guests`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gw_artifact::manifest::{Grants, Limits, NnDialect};
use gw_artifact::{ByteSize, Digest};
use gw_host::{
    Call, GuestError, Handled, Host, HostConfig, HostError, Plugin, PluginSpec, ProgramSpec,
};
use gw_inference::{DeviceChoice, InferenceConfig, Model, ModelPolicy, ModelSpec, Models};
use prometheus_client::registry::Registry;
use tempfile::TempDir;

/// A host in a folder of its own, with the model `double`: `y = x + x`.
pub(crate) struct Node {
    pub(crate) host: Arc<Host>,
    pub(crate) folder: TempDir,
    pub(crate) models: Arc<Models>,
    pub(crate) model: Arc<Model>,
    metrics: Registry,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::with(HostConfig::default())
    }

    pub(crate) fn with(config: HostConfig) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut metrics = Registry::default();
        // No wait here is about how busy a model is.
        let wait_max = Duration::from_mins(10);
        let inference = InferenceConfig { wait_max, ..InferenceConfig::default() };
        let models = Arc::new(Models::new(inference, &mut metrics));
        let policy = ModelPolicy::default();
        let model = load(&models, folder.path(), "double", &crate::double::onnx(), policy);
        // Some guests here have hours, so that another limit ends them.
        let config = HostConfig { time_max: Duration::from_hours(2), ..config };
        let host = Host::new(config, &mut metrics).expect("a host");
        Self { host, folder, models, model, metrics }
    }

    /// Loads another model.
    pub(crate) fn model(&self, name: &str, onnx: &[u8]) -> Arc<Model> {
        load(&self.models, self.folder.path(), name, onnx, ModelPolicy::default())
    }

    /// A model that adds `x` to the state `h`, which `y` is next.
    pub(crate) fn adding(&self) -> Arc<Model> {
        let state = [("y".to_owned(), "h".to_owned())].into();
        let policy = ModelPolicy { state, ..ModelPolicy::default() };
        load(&self.models, self.folder.path(), "add", &crate::double::adding(), policy)
    }

    /// A plugin with the model, 16 MiB and a quarter of a second.
    pub(crate) fn spec(&self, name: &str) -> PluginSpec {
        PluginSpec {
            name: name.to_owned(),
            wasm: guest(name),
            limits: lasting(Duration::from_millis(250)),
            models: HashMap::from([("double".to_owned(), Arc::clone(&self.model))]),
            load: None,
            health: gw_host::Health::default(),
            assets: None,
            app: "app".to_owned(),
            grants: Grants::default(),
            wasi_nn: NnDialect::Standard,
        }
    }

    pub(crate) fn load(&self, name: &str) -> Result<Arc<Plugin>, HostError> {
        self.host.load(self.spec(name))
    }

    /// A program with the model, 16 MiB and nothing else.
    pub(crate) fn program(&self, name: &str, wasm: impl Into<Bytes>) -> ProgramSpec {
        ProgramSpec {
            name: name.to_owned(),
            wasm: wasm.into(),
            args: vec![name.to_owned()],
            env: Vec::new(),
            folders: Vec::new(),
            memory_bytes: 16 << 20,
            models: HashMap::from([("double".to_owned(), Arc::clone(&self.model))]),
            load: None,
            wasi_nn: NnDialect::Standard,
        }
    }

    /// The neighbour whose answers must all be right; it may wait for its turn.
    pub(crate) fn good(&self) -> Arc<Plugin> {
        let time = Duration::from_mins(1);
        self.host
            .load(PluginSpec { limits: lasting(time), ..self.spec("good") })
            .expect("the guest loads")
    }

    /// The metrics as Prometheus reads them.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).expect("encoded");
        text
    }
}

pub(crate) async fn ask(plugin: &Arc<Plugin>, body: &str) -> Result<Handled, GuestError> {
    ask_within(plugin, body, Duration::from_mins(1)).await
}

pub(crate) async fn ask_within(
    plugin: &Arc<Plugin>,
    body: &str,
    timeout: Duration,
) -> Result<Handled, GuestError> {
    let request = http::Request::post("http://localhost/guest").body(Bytes::from(body.to_owned()));
    plugin.handle(request.expect("a request"), within(timeout)).await
}

/// A call with so much time from now.
pub(crate) fn within(timeout: Duration) -> Call {
    Call { deadline: Instant::now() + timeout, request_id: "t".into(), caller: Arc::default() }
}

/// The answer's body, where the guest answered.
pub(crate) async fn text(plugin: &Arc<Plugin>, body: &str) -> String {
    let handled = ask(plugin, body).await.expect("an answer");
    String::from_utf8(handled.response.into_body().to_vec()).expect("text")
}

/// The component of a guest, built first where it is a crate.
pub(crate) fn guest(name: &str) -> Bytes {
    let folder = guests().join(name);
    if let Ok(text) = std::fs::read_to_string(folder.join("guest.wat")) {
        return wat::parse_str(text).expect("a component").into();
    }
    let file = format!("wasm32-wasip2/release/{}.wasm", name.replace('-', "_"));
    std::fs::read(built().join(file)).expect("a built guest").into()
}

/// A program of `tests/guests/command`.
pub(crate) fn command(name: &str) -> Bytes {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| build(&guests().join("command"), "wasm32-wasip1"));
    let file = format!("wasm32-wasip1/release/{name}.wasm");
    std::fs::read(built.join(file)).expect("a built program").into()
}

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests")
}

/// Builds the guests that are crates, once per process; where nothing changed it takes no time.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(&guests(), "wasm32-wasip2"))
}

/// Builds the crates of `folder` for guests, and says where.
fn build(folder: &Path, architecture: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--target", architecture])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(folder)
        // Flags for this machine's processor are not for the guest's.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the guests in {} do not build", folder.display());
    target
}

fn load(
    models: &Models,
    folder: &Path,
    name: &str,
    onnx: &[u8],
    policy: ModelPolicy,
) -> Arc<Model> {
    let (name, digest) = (name.to_owned(), Digest::of(onnx));
    let path = folder.join(format!("{}.onnx", digest.hex()));
    std::fs::write(&path, onnx).expect("written");
    let spec = ModelSpec { name, path, digest, device: DeviceChoice::Cpu, policy };
    models.load(&spec).expect("the model loads")
}

/// The limits of most guests here, with so much time.
pub(crate) fn lasting(time: Duration) -> Limits {
    Limits { memory: ByteSize(16 << 20), time, ..Limits::default() }
}

/// The limits of most guests here, with so many bytes of memory.
pub(crate) fn growing(memory: u64) -> Limits {
    Limits { memory: ByteSize(memory), ..lasting(Duration::from_millis(250)) }
}
