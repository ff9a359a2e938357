//! What is deployed on a node, and how it changes: push, rollback, restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use gw_artifact::Digest;
use gw_artifact::bundle::{self, BundleContent, VerifiedBundle};
use gw_artifact::keys::PublicKey;
use gw_artifact::manifest::Manifest;
use gw_inference::Models;
use serde::{Deserialize, Serialize};

use crate::changes::{Changes, Home};
use crate::content::ContentStore;
use crate::loader::{Source, content_digest};
use crate::log::Record;
use crate::quarantine::{self, Watch};
use crate::state::{AppLedger, Ledger, Release, StateDir};
use crate::{AppStatus, DeployError, Fallback, Loader, Revision, RouteTable};

/// Section `[deploy]` of the node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeployConfig {
    /// How many revisions of each app can be rolled back to, the live one included. The bundles of
    /// older ones are removed. Default 10.
    pub revisions_kept: usize,
    /// How often a plugin may fail in a row before its revision is quarantined: the last revision
    /// that is not becomes live, until somebody pushes or rolls back. 0 is never. Default 20.
    pub quarantine_failures: u32,
}

impl Default for DeployConfig {
    fn default() -> Self {
        Self { revisions_kept: 10, quarantine_failures: 20 }
    }
}

/// The deployments of a node.
///
/// Readers ([`Self::live`], [`Self::status`]) never wait: changes are made aside, one at a time,
/// and swapped in whole.
pub struct Deployments {
    loader: Loader,
    trusted: Vec<PublicKey>,
    config: DeployConfig,
    content: ContentStore,
    watch: Watch,
    live: ArcSwap<RouteTable>,
    status: ArcSwap<Vec<AppStatus>>,
    /// Held for the whole of a change, staging included.
    changes: Mutex<Changes>,
}

impl Deployments {
    /// Opens a node's state directory and loads what was live, each app by itself. A revision that
    /// does not load any more is replaced by the last one before it that does; the log and the
    /// status say so.
    ///
    /// # Errors
    /// [`DeployError::Locked`] and [`DeployError::State`]; a broken revision is not an error.
    pub async fn open(
        state_dir: PathBuf,
        trusted: Vec<PublicKey>,
        loader: Loader,
        config: DeployConfig,
    ) -> Result<Arc<Self>, DeployError> {
        blocking(move || {
            let (state, ledger) = StateDir::open(&state_dir)?;
            let content = open_content(&state_dir)?;
            let (watch, failing) = Watch::new(config.quarantine_failures);
            let home = Home::State(state);
            let deployments =
                Arc::new(Self::new(loader, trusted, config, content, watch, ledger, home));
            quarantine::start(&deployments, failing)?;
            deployments.restore();
            Ok(deployments)
        })
        .await
    }

    /// Deployments that end with the process, for `gw dev`.
    ///
    /// # Errors
    /// [`DeployError::State`] when no temporary directory can be made.
    pub fn in_memory(loader: Loader) -> Result<Arc<Self>, DeployError> {
        let home = tempfile::Builder::new().prefix("gw-").tempdir();
        let home =
            home.map_err(DeployError::state("making a directory below", &std::env::temp_dir()))?;
        let content = open_content(home.path())?;
        // Nothing is kept that could be fallen back to, and who works on a plugin wants to see it.
        let config = DeployConfig { revisions_kept: 1, quarantine_failures: 0 };
        let (ledger, home) = (Ledger::default(), Home::Temporary(home));
        let (watch, _) = Watch::new(config.quarantine_failures);
        Ok(Arc::new(Self::new(loader, Vec::new(), config, content, watch, ledger, home)))
    }

    fn new(
        loader: Loader,
        trusted: Vec<PublicKey>,
        config: DeployConfig,
        content: ContentStore,
        watch: Watch,
        ledger: Ledger,
        home: Home,
    ) -> Self {
        let changes = Mutex::new(Changes::new(ledger, home));
        let (live, status) = (ArcSwap::default(), ArcSwap::default());
        Self { loader, trusted, config, content, watch, live, status, changes }
    }

    /// What answers now. A request takes it once and ends on what it took.
    pub fn live(&self) -> Arc<RouteTable> {
        self.live.load_full()
    }

    /// The models of what is deployed.
    pub fn models(&self) -> &Arc<Models> {
        &self.loader.models
    }

    /// Every app with its revisions, ordered by name.
    pub fn status(&self) -> Vec<AppStatus> {
        self.status.load().as_ref().clone()
    }

    /// Makes a working directory live without a signature, for `gw dev`. `base` is where relative
    /// `file:` sources of the manifest start.
    ///
    /// # Errors
    /// Why the new revision is refused; the old one stays live.
    pub async fn install(
        self: &Arc<Self>,
        manifest: Manifest,
        content: BundleContent,
        base: PathBuf,
    ) -> Result<Arc<Revision>, DeployError> {
        let this = Arc::clone(self);
        blocking(move || {
            let digest = content_digest(&content);
            let source = Source { manifest, content, digest, signer: None, base: Some(base) };
            this.release(source, None)
        })
        .await
    }

    /// Verifies, loads, records and makes live a signed bundle. A bundle that is live already
    /// changes nothing. A caller that goes away does not interrupt a push.
    ///
    /// # Errors
    /// Why the bundle is refused; what was live stays live.
    pub async fn push(self: &Arc<Self>, bundle: Bytes) -> Result<Arc<Revision>, DeployError> {
        let this = Arc::clone(self);
        blocking(move || {
            let verified = bundle::verify(&bundle, &this.trusted)?;
            this.release(source(verified), Some(&bundle))
        })
        .await
    }

    /// Makes an earlier revision of `app` live: the one named, or the one released before the
    /// live one.
    ///
    /// # Errors
    /// [`DeployError::UnknownApp`], [`DeployError::UnknownRevision`],
    /// [`DeployError::NothingBefore`], or why the revision does not load any more.
    pub async fn rollback(
        self: &Arc<Self>,
        app: &str,
        revision: Option<Digest>,
    ) -> Result<Arc<Revision>, DeployError> {
        let (this, app) = (Arc::clone(self), app.to_owned());
        blocking(move || this.roll_back(&app, revision)).await
    }

    fn release(
        &self,
        source: Source,
        bundle: Option<&Bytes>,
    ) -> Result<Arc<Revision>, DeployError> {
        let mut changes = self.changes();
        let (app, digest) = (source.manifest.app.name.clone(), source.digest);
        if let Some(live) = changes.settled(&app, &digest) {
            return Ok(live);
        }
        let signer = source.signer.as_ref().map(ToString::to_string).unwrap_or_default();
        let revision = Arc::new(self.loader.load(source, &self.content, &self.watch)?);
        let table = changes.table_with(&revision)?;
        let version = revision.version.clone();
        let bundle = match (&changes.home, bundle) {
            (Home::State(state), Some(bundle)) => state.put(bundle)?,
            _ => digest,
        };
        let at = now();
        changes.record(&Record::Released { app, revision: digest, bundle, version, signer, at })?;
        self.swap(&mut changes, &revision, table);
        self.tidy(&mut changes);
        Ok(revision)
    }

    fn roll_back(&self, app: &str, revision: Option<Digest>) -> Result<Arc<Revision>, DeployError> {
        let mut changes = self.changes();
        let target = changes.rollback_target(app, revision)?;
        if let Some(live) = changes.settled(app, &target.revision) {
            return Ok(live);
        }
        let revision = Arc::new(self.stage(&changes.home, &target)?);
        let table = changes.table_with(&revision)?;
        let (app, at) = (app.to_owned(), now());
        changes.record(&Record::RolledBack { app, revision: target.revision, at })?;
        self.swap(&mut changes, &revision, table);
        Ok(revision)
    }

    /// Loads what the ledger wants, app by app.
    fn restore(&self) {
        let mut changes = self.changes();
        for (app, releases) in changes.ledger.apps.clone() {
            self.restore_app(&mut changes, &app, &releases);
        }
        self.publish_status(&changes);
        self.tidy(&mut changes);
    }

    fn restore_app(&self, changes: &mut Changes, app: &str, releases: &AppLedger) {
        let wanted = releases.wanted;
        let mut fallback = None;
        if let Some(reason) = releases.quarantine(&wanted) {
            let reason = format!("{wanted} is in quarantine: {reason}");
            fallback = Some(Fallback { wanted, reason });
        }
        for candidate in releases.candidates() {
            match self.staged(changes, app, candidate) {
                Ok((table, revision)) => {
                    fallback = fallback.filter(|_| revision.digest != wanted);
                    self.swap(changes, &revision, table);
                    break;
                }
                Err(error) => {
                    if candidate.revision == wanted {
                        fallback = Some(Fallback { wanted, reason: chain(&error) });
                    }
                }
            }
        }
        if let Some(fallback) = fallback {
            let live = changes.live.get(app).map(|revision| revision.digest.to_string());
            tracing::error!(app, wanted = %wanted, live, "serving an older revision than wanted");
            changes.fallbacks.insert(app.to_owned(), fallback);
        }
    }

    /// A stored revision, and the routes of the node if it were live. The log says why it is not.
    pub(crate) fn staged(
        &self,
        changes: &Changes,
        app: &str,
        release: &Release,
    ) -> Result<(RouteTable, Arc<Revision>), DeployError> {
        let staged = self.stage(&changes.home, release).and_then(|revision| {
            let revision = Arc::new(revision);
            Ok((changes.table_with(&revision)?, revision))
        });
        staged.inspect_err(|error| {
            let (revision, reason) = (release.revision, chain(error));
            tracing::error!(app, %revision, reason, "revision does not load");
        })
    }

    /// Loads a stored bundle, whose signature is checked again: a key may not be trusted any more.
    fn stage(&self, home: &Home, release: &Release) -> Result<Revision, DeployError> {
        let Home::State(state) = home else {
            let reason = "nothing is stored in `gw dev`".to_owned();
            return Err(DeployError::StoredBundle { revision: release.revision, reason });
        };
        let verified = bundle::verify(&state.bundle(release)?, &self.trusted)?;
        self.loader.load(source(verified), &self.content, &self.watch)
    }

    pub(crate) fn swap(&self, changes: &mut Changes, revision: &Arc<Revision>, table: RouteTable) {
        let app = &revision.app;
        changes.fallbacks.remove(app);
        changes.live.insert(app.clone(), Arc::clone(revision));
        self.live.store(Arc::new(table));
        self.publish_status(changes);
        tracing::info!(app, revision = %revision.digest, version = revision.version, "live");
    }

    pub(crate) fn publish_status(&self, changes: &Changes) {
        self.status.store(Arc::new(changes.status()));
    }

    /// Forgets the oldest revisions and removes their files. What fails here is tried again by the
    /// next change, so it is no reason to refuse this one.
    fn tidy(&self, changes: &mut Changes) {
        let tidied = changes.drop_surplus(self.config.revisions_kept).and_then(|()| {
            if let Home::State(state) = &changes.home {
                state.retain(|bundle| changes.ledger.needs(bundle))?;
            }
            let root = self.content.root();
            self.content
                .retain(|revision| changes.live.values().any(|live| live.digest == *revision))
                .map_err(DeployError::state("removing old files from", root))
        });
        if let Err(error) = tidied {
            tracing::warn!(reason = chain(&error), "old revisions were not removed");
        }
        self.publish_status(changes);
    }

    pub(crate) fn changes(&self) -> MutexGuard<'_, Changes> {
        // Whatever can panic runs before the first write, so a poisoned lock is still good.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn source(verified: VerifiedBundle) -> Source {
    let VerifiedBundle { digest, signer, manifest, content } = verified;
    Source { manifest, content, digest, signer: Some(signer), base: None }
}

fn open_content(home: &Path) -> Result<ContentStore, DeployError> {
    let dir = home.join("content");
    ContentStore::open(dir.clone()).map_err(DeployError::state("opening", &dir))
}

/// Runs what blocks on a thread that may; it runs to its end even if the caller goes away.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DeployError> + Send + 'static,
) -> Result<T, DeployError> {
    let work = tokio::task::spawn_blocking(work);
    work.await.unwrap_or_else(|error| Err(DeployError::Panicked { reason: error.to_string() }))
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
