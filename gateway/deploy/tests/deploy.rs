//! Push, rollback and restart, with real components in a real state directory.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

#[path = "support/guests.rs"]
mod guests;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use gw_artifact::bundle::{BundleContent, BundleError, BundledModel, pack};
use gw_artifact::keys::{PublicKey, SigningKey};
use gw_artifact::manifest::Manifest;
use gw_artifact::{Digest, FetchConfig, Fetcher, NoProgress};
use gw_deploy::{AppStatus, DeployConfig, DeployError, Deployments, Loader, Lookup, Revision};
use gw_host::{Call, GuestError, Host, HostConfig};
use gw_inference::{DeviceChoice, InferenceConfig, Models};
use http::{Method, Request};
use prometheus_client::registry::Registry;
use tempfile::TempDir;

/// A node's state directory and a key that it trusts.
struct Site {
    dir: TempDir,
    key: SigningKey,
    wasm: Bytes,
}

impl Site {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            key: SigningKey::generate().unwrap(),
            wasm: guests::component("moody"),
        }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    async fn open(&self) -> Arc<Deployments> {
        self.open_with(DeployConfig::default(), vec![self.key.public()]).await
    }

    async fn open_with(&self, config: DeployConfig, trusted: Vec<PublicKey>) -> Arc<Deployments> {
        let loader = loader(self.dir.path());
        Deployments::open(self.state(), trusted, loader, config).await.unwrap()
    }

    fn bundle(&self, app: &str, version: &str) -> Bytes {
        pack(&content(&manifest(app, version, "/say"), &self.wasm), &self.key).unwrap()
    }

    fn stored(&self) -> Vec<PathBuf> {
        let bundles = fs::read_dir(self.state().join("bundles")).unwrap();
        bundles.map(|entry| entry.unwrap().path()).collect()
    }
}

fn loader(dir: &Path) -> Loader {
    let mut registry = Registry::default();
    let host = HostConfig {
        instances_max: 4,
        compiled_dir: Some(dir.join("compiled")),
        seal_key: Some(dir.join("seal.key")),
        ..HostConfig::default()
    };
    let mut fetch = FetchConfig::from_env().unwrap();
    fetch.cache_dir = dir.join("cache");
    Loader {
        host: Host::new(host, &mut registry).unwrap(),
        models: Arc::new(Models::new(InferenceConfig::default(), &mut registry)),
        fetcher: Arc::new(Fetcher::new(fetch)),
        device: DeviceChoice::Cpu,
        progress: Arc::new(NoProgress),
    }
}

fn manifest(app: &str, version: &str, path: &str) -> String {
    format!(
        "[app]\nname = \"{app}\"\nversion = \"{version}\"\n\
         [[plugin]]\nname = \"moody\"\npath = \"moody.wasm\"\n\
         [[route]]\npath = \"{path}\"\nmethods = [\"POST\"]\nplugins = [\"moody\"]\n"
    )
}

fn content(manifest: &str, wasm: &Bytes) -> BundleContent {
    BundleContent {
        manifest_text: manifest.to_owned(),
        plugins: vec![("moody".to_owned(), wasm.clone())],
        assets: Vec::new(),
        models: Vec::new(),
    }
}

/// What `POST path` answers to `body`.
async fn say(deployments: &Deployments, path: &str, body: &str) -> String {
    ask(deployments, path, body).await.unwrap()
}

/// The same, where the plugin may fail.
async fn ask(deployments: &Deployments, path: &str, body: &str) -> Result<String, GuestError> {
    let table = deployments.live();
    let Lookup::Found(found) = table.find(&Method::POST, path) else {
        return Ok("no route".to_owned());
    };
    let request = Request::post(path).body(Bytes::copy_from_slice(body.as_bytes())).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let call = Call { deadline, request_id: "test".to_owned(), caller: Arc::default() };
    let handled = found.route.chain.links()[0].plugin.handle(request, call).await?;
    Ok(String::from_utf8(handled.response.into_body().to_vec()).unwrap())
}

fn live(deployments: &Deployments) -> Option<Digest> {
    deployments.status().first().and_then(|app| app.live)
}

fn versions(status: &AppStatus) -> Vec<(&str, bool)> {
    status.revisions.iter().map(|revision| (&*revision.version, revision.live)).collect()
}

#[tokio::test]
async fn a_push_answers_and_a_restart_changes_nothing() {
    let site = Site::new();
    let node = site.open().await;
    assert!(node.live().is_empty());
    let pushed = node.push(site.bundle("a", "0.1.0")).await.unwrap();
    assert_eq!(say(&node, "/say", "hello").await, "hello");
    assert_eq!(live(&node), Some(pushed.digest));
    let status = node.status();
    drop((node, pushed));

    let node = site.open().await;
    assert_eq!(node.status(), status);
    assert_eq!(say(&node, "/say", "again").await, "again");
}

#[tokio::test]
async fn a_plugin_loads_models_from_bytes_where_its_manifest_says_so() {
    let site = Site::new();
    let wasm = guests::component("nn-script");
    let node = site.open().await;
    let plain = manifest("a", "0.1.0", "/say");
    let granted = plain.replace("path = \"moody.wasm\"", "path = \"moody.wasm\"\nload = \"8B\"");
    assert_ne!(plain, granted);
    // Eight bytes that are no model: what is refused, and why.
    let load = "load\tonnx\tcpu\tzeros*8\nload\tonnx\tcpu\tzeros*9";
    for (manifest, answer) in [
        (plain, "ErrorCode::Security\nErrorCode::Security\n"),
        (granted, "ErrorCode::InvalidEncoding\nErrorCode::TooLarge\n"),
    ] {
        node.push(pack(&content(&manifest, &wasm), &site.key).unwrap()).await.unwrap();
        assert_eq!(say(&node, "/say", load).await, answer);
    }
}

#[tokio::test]
async fn a_second_process_on_one_state_directory_is_refused() {
    let site = Site::new();
    let _node = site.open().await;
    let second = Deployments::open(
        site.state(),
        Vec::new(),
        loader(site.dir.path()),
        DeployConfig::default(),
    );
    assert!(matches!(second.await, Err(DeployError::Locked { .. })));
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_the_old_revision_serves_on() {
    let site = Site::new();
    let node = site.open().await;
    node.push(site.bundle("a", "0.1.0")).await.unwrap();
    let (status, table) = (node.status(), node.live());

    let next = site.bundle("a", "0.2.0");
    let stranger = SigningKey::generate().unwrap();
    let foreign = content(&manifest("a", "0.2.0", "/say"), &site.wasm);
    let broken = content(&manifest("a", "0.2.0", "/say"), &Bytes::from_static(b"no wasm"));
    let typo =
        content(&manifest("a", "0.2.0", "/say").replace("[[route]]", "[[rout]]"), &site.wasm);
    let mut empty = content(&manifest("a", "0.2.0", "/say"), &site.wasm);
    empty.plugins.clear();
    let mut tampered = next.to_vec();
    *tampered.last_mut().unwrap() ^= 1;

    let refused = |bundle| async { node.push(bundle).await.unwrap_err() };
    let error = refused(Bytes::from_static(b"noise")).await;
    assert!(matches!(error, DeployError::Bundle(BundleError::NotABundle { .. })), "{error:?}");
    let error = refused(pack(&foreign, &stranger).unwrap()).await;
    assert!(matches!(error, DeployError::Bundle(BundleError::UntrustedKey { .. })), "{error:?}");
    let error = refused(tampered.into()).await;
    assert!(matches!(error, DeployError::Bundle(BundleError::BadSignature)), "{error:?}");
    let error = refused(next.slice(..next.len() - 100)).await;
    assert!(matches!(error, DeployError::Bundle(BundleError::BadSignature)), "{error:?}");
    let error = refused(pack(&typo, &site.key).unwrap()).await;
    assert!(matches!(error, DeployError::Bundle(BundleError::Manifest(_))), "{error:?}");
    let error = refused(pack(&broken, &site.key).unwrap()).await;
    assert!(matches!(error, DeployError::Plugin { .. }), "{error:?}");
    let error = refused(pack(&empty, &site.key).unwrap()).await;
    assert!(matches!(error, DeployError::Missing { kind: "plugin", .. }), "{error:?}");

    assert_eq!(node.status(), status);
    assert!(Arc::ptr_eq(&node.live(), &table), "nothing was swapped");
    assert_eq!(say(&node, "/say", "still here").await, "still here");
    assert_eq!(site.stored().len(), 1, "a refused bundle is not kept");
}

#[tokio::test]
async fn a_bundle_that_is_live_already_changes_nothing() {
    let site = Site::new();
    let node = site.open().await;
    let first = node.push(site.bundle("a", "0.1.0")).await.unwrap();
    let again = node.push(site.bundle("a", "0.1.0")).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    assert_eq!(node.status()[0].revisions.len(), 1);
}

#[tokio::test]
async fn requests_end_on_the_revision_on_which_they_began() {
    let site = Site::new();
    let node = site.open().await;
    let first = node.push(site.bundle("a", "0.1.0")).await.unwrap();
    let table = node.live();
    let Lookup::Found(began) = table.find(&Method::POST, "/say") else { panic!("no route") };
    node.push(site.bundle("a", "0.2.0")).await.unwrap();
    assert!(Arc::ptr_eq(&began.revision, &first), "a table does not change");
    let request = Request::post("/say").body(Bytes::from_static(b"late")).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let call = Call { deadline, request_id: "test".to_owned(), caller: Arc::default() };
    let handled = began.route.chain.links()[0].plugin.handle(request, call).await.unwrap();
    assert_eq!(handled.response.into_body(), "late");
    let next = node.live();
    let Lookup::Found(next) = next.find(&Method::POST, "/say") else { panic!("no route") };
    assert_eq!(next.revision.version, "0.2.0");
}

#[tokio::test]
async fn a_rollback_goes_one_back_or_to_the_one_named_and_survives_a_restart() {
    let site = Site::new();
    let node = site.open().await;
    let mut pushed = Vec::new();
    for version in ["0.1.0", "0.2.0", "0.3.0"] {
        pushed.push(node.push(site.bundle("a", version)).await.unwrap().digest);
    }
    assert_eq!(node.rollback("a", None).await.unwrap().digest, pushed[1]);
    assert_eq!(node.rollback("a", None).await.unwrap().digest, pushed[0]);
    let error = node.rollback("a", None).await.unwrap_err();
    assert!(matches!(error, DeployError::NothingBefore { .. }));
    assert_eq!(node.rollback("a", Some(pushed[1])).await.unwrap().version, "0.2.0");
    let error = node.rollback("a", Some(Digest::of(b"?"))).await.unwrap_err();
    assert!(matches!(error, DeployError::UnknownRevision { .. }));
    let error = node.rollback("b", None).await.unwrap_err();
    assert!(matches!(error, DeployError::UnknownApp { .. }));
    drop(node);

    let node = site.open().await;
    assert_eq!(versions(&node.status()[0]), [("0.1.0", false), ("0.2.0", true), ("0.3.0", false)]);
    assert_eq!(say(&node, "/say", "x").await, "x");
}

#[tokio::test]
async fn only_so_many_revisions_and_their_bundles_are_kept() {
    let site = Site::new();
    let config = DeployConfig { revisions_kept: 2, ..DeployConfig::default() };
    let node = site.open_with(config, vec![site.key.public()]).await;
    for version in ["0.1.0", "0.2.0", "0.3.0"] {
        node.push(site.bundle("a", version)).await.unwrap();
    }
    assert_eq!(versions(&node.status()[0]), [("0.2.0", false), ("0.3.0", true)]);
    assert_eq!(site.stored().len(), 2);
    let content = fs::read_dir(site.state().join("content")).unwrap().count();
    assert_eq!(content, 1, "files of revisions that nobody runs are removed");
}

#[tokio::test]
async fn two_apps_share_a_node_but_not_a_route() {
    let site = Site::new();
    let node = site.open().await;
    node.push(site.bundle("a", "0.1.0")).await.unwrap();
    let error = node.push(site.bundle("b", "0.1.0")).await.unwrap_err();
    assert!(
        matches!(&error, DeployError::RouteConflict { app, other_app, .. }
            if app == "b" && other_app == "a"),
        "{error}"
    );
    let other = content(&manifest("b", "0.1.0", "/shout"), &site.wasm);
    node.push(pack(&other, &site.key).unwrap()).await.unwrap();
    assert_eq!(say(&node, "/say", "x").await, "x");
    assert_eq!(say(&node, "/shout", "y").await, "y");
}

#[tokio::test]
async fn a_newest_bundle_that_is_damaged_gives_way_to_the_one_before_it_and_says_so() {
    for damage in [None, Some(b"damaged".as_slice())] {
        let site = Site::new();
        let node = site.open().await;
        let first = node.push(site.bundle("a", "0.1.0")).await.unwrap().digest;
        let before = site.stored();
        let second = node.push(site.bundle("a", "0.2.0")).await.unwrap().digest;
        drop(node);
        let newest = site.stored().into_iter().find(|path| !before.contains(path)).unwrap();
        match damage {
            None => fs::remove_file(&newest).unwrap(),
            Some(bytes) => fs::write(&newest, bytes).unwrap(),
        }

        let node = site.open().await;
        assert_eq!(live(&node), Some(first));
        assert_eq!(say(&node, "/say", "x").await, "x");
        let fallback = node.status()[0].fallback.clone().unwrap();
        assert_eq!(fallback.wanted, second);
        assert!(fallback.reason.contains("missing or damaged"), "{}", fallback.reason);

        node.push(site.bundle("a", "0.2.0")).await.unwrap();
        assert_eq!((live(&node), &node.status()[0].fallback), (Some(second), &None));
        drop(node);
        assert_eq!(live(&*site.open().await), Some(second), "the push repaired the store");
    }
}

#[tokio::test]
async fn a_revision_that_keeps_failing_gives_way_to_the_last_good_one_until_it_is_pushed_again() {
    let site = Site::new();
    let config = DeployConfig { quarantine_failures: 3, ..DeployConfig::default() };
    let open = || site.open_with(config.clone(), vec![site.key.public()]);
    let deployments = open().await;
    let good = deployments.push(site.bundle("demo", "1.0.0")).await.unwrap().digest;
    let bad = deployments.push(site.bundle("demo", "2.0.0")).await.unwrap().digest;
    for body in ["panic", "panic", "well", "panic", "panic"] {
        let _ = ask(&deployments, "/say", body).await;
    }
    assert_eq!(live(&deployments), Some(bad), "an answer between failures is no habit");
    ask(&deployments, "/say", "panic").await.unwrap_err();
    // The thread that fell back holds the deployments until it is done.
    while live(&deployments) != Some(good) || Arc::strong_count(&deployments) > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let fallback = deployments.status()[0].fallback.clone().unwrap();
    assert_eq!(fallback.wanted, bad);
    assert!(fallback.reason.contains("plugin moody: 3 failures in a row"), "{}", fallback.reason);
    assert_eq!(say(&deployments, "/say", "hello").await, "hello");

    drop(deployments);
    let deployments = open().await;
    assert_eq!(live(&deployments), Some(good), "a restart does not forget it");
    assert_eq!(deployments.status()[0].fallback, Some(fallback));
    deployments.push(site.bundle("demo", "2.0.0")).await.unwrap();
    let status = &deployments.status()[0];
    assert_eq!((status.live, &status.fallback), (Some(bad), &None));
}

#[tokio::test]
async fn a_failing_revision_with_nothing_before_it_stays() {
    let site = Site::new();
    let config = DeployConfig { quarantine_failures: 1, ..DeployConfig::default() };
    let deployments = site.open_with(config, vec![site.key.public()]).await;
    let only = deployments.push(site.bundle("demo", "1.0.0")).await.unwrap().digest;
    ask(&deployments, "/say", "panic").await.unwrap_err();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(live(&deployments), Some(only));
    assert_eq!(deployments.status()[0].fallback, None);
}

#[tokio::test]
async fn an_app_whose_key_is_no_longer_trusted_is_not_served() {
    let site = Site::new();
    site.open().await.push(site.bundle("a", "0.1.0")).await.unwrap();
    let node = site.open_with(DeployConfig::default(), Vec::new()).await;
    assert!(node.live().is_empty());
    let status = &node.status()[0];
    assert_eq!(status.live, None);
    assert!(status.fallback.as_ref().unwrap().reason.contains("not trusted"));
}

#[tokio::test]
async fn a_release_log_torn_at_any_byte_of_the_last_push_serves_that_push_or_the_one_before() {
    let site = Site::new();
    let node = site.open().await;
    let first = node.push(site.bundle("a", "0.1.0")).await.unwrap().digest;
    let log = site.state().join("releases.log");
    let before = fs::read(&log).unwrap().len();
    let second = node.push(site.bundle("a", "0.2.0")).await.unwrap().digest;
    drop(node);
    let whole = fs::read(&log).unwrap();
    let bundles: Vec<_> =
        site.stored().into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    for cut in (before..=whole.len()).step_by(41).chain([whole.len() - 1, whole.len()]) {
        fs::write(&log, &whole[..cut]).unwrap();
        for (bytes, path) in &bundles {
            fs::write(path, bytes).unwrap();
        }
        let node = site.open().await;
        let expected = if cut == whole.len() { second } else { first };
        assert_eq!(live(&node), Some(expected), "cut at {cut}");
        assert_eq!(say(&node, "/say", "x").await, "x", "cut at {cut}");
    }
}

#[tokio::test]
async fn a_working_directory_is_swapped_in_without_a_signature() {
    let site = Site::new();
    let node = Deployments::in_memory(loader(site.dir.path())).unwrap();
    for version in ["0.1.0", "0.2.0"] {
        let text = manifest("a", version, "/say");
        let parsed = Manifest::parse(&text, "gw.toml").unwrap();
        let content = content(&text, &site.wasm);
        let installed = node.install(parsed, content, PathBuf::new()).await.unwrap();
        assert_eq!((installed.version.as_str(), installed.signer), (version, None));
        assert_eq!(say(&node, "/say", version).await, version);
    }
    assert_eq!(versions(&node.status()[0]), [("0.2.0", true)]);
}

#[tokio::test]
async fn a_route_has_a_chain_of_plugins_that_fits_the_node() {
    let site = Site::new();
    let node = site.open().await;
    let chain = |count: usize| {
        let names = vec!["\"moody\""; count].join(", ");
        let text = manifest("a", "0.1.0", "/say").replace("[\"moody\"]", &format!("[{names}]"));
        pack(&content(&text, &site.wasm), &site.key).unwrap()
    };
    let pushed = node.push(chain(2)).await.unwrap();
    let route = &pushed.routes[0];
    assert_eq!((route.chain.links().len(), route.identity.plugins.len()), (2, 2));
    // The node has four instances, and five handlers that wait for each other need five.
    let error = node.push(chain(5)).await.unwrap_err();
    let DeployError::BadRoute { reason, .. } = error else { panic!("{error}") };
    assert!(reason.contains("need 5 instances at once; `instances_max` is 4"), "{reason}");
}

/// An ONNX file: `y = h + x`, each of two floats.
const ADD: &[u8] = b"\x08\x08\x42\x02\x10\x0d\x3a\x46\
    \x0a\x0e\x0a\x01h\x0a\x01x\x12\x01y\x22\x03Add\x12\x01g\
    \x5a\x0f\x0a\x01h\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x02\
    \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x02\
    \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x02";

#[tokio::test]
async fn a_model_is_served_as_its_entry_says_or_refused_with_what_there_is() {
    let site = Site::new();
    let node = site.open().await;
    let bundle = |lines: &str| {
        let text = manifest("a", "0.1.0", "/say").replace(
            "[[plugin]]",
            &format!("[[model]]\nname = \"add\"\nsource = \"add.onnx\"\n{lines}\n[[plugin]]"),
        );
        let text = text.replace("path = \"moody.wasm\"", "path = \"m.wasm\"\nmodels = [\"add\"]");
        let (digest, bytes) = (Digest::of(ADD), Some(Bytes::from_static(ADD)));
        let models = vec![BundledModel { name: "add".to_owned(), digest, bytes }];
        pack(&BundleContent { models, ..content(&text, &site.wasm) }, &site.key).unwrap()
    };
    let plain = node.push(bundle("pinned = true")).await.unwrap();
    assert!(plain.models["add"].policy().pinned);
    let stateful = node.push(bundle("state = { y = \"h\" }")).await.unwrap();
    assert_eq!(stateful.models["add"].policy().state["y"], "h");
    let identity = |revision: &Revision| revision.routes[0].identity.models[0].policy;
    assert_ne!(identity(&plain), identity(&stateful), "no cached answer of one is the other's");
    for (lines, problem) in [
        ("state = { z = \"h\" }", "`state` names the output \"z\"; the outputs of the model are y"),
        (
            "batch = { pad = { x = 0 } }",
            "`pad` names the input x: f32 [2], which has no open dimension behind its first; leave \
             it out",
        ),
    ] {
        let error = node.push(bundle(lines)).await.unwrap_err();
        let told = "model \"add\" of app \"a\" cannot be served as its [[model]] says";
        assert_eq!(error.to_string(), told);
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), problem);
        assert_eq!(live(&node), Some(stateful.digest), "what was live still is");
    }
}
