//! Revisions that keep failing, and the way back to one that does not.
//!
//! The host tells a plugin's [`Health`] how its guests end; too many failures in a row send a
//! [`Failing`] to the thread here, which makes the last good revision live. Whoever asks for the
//! revision again, by a push or a rollback, ends its quarantine.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};

use gw_artifact::Digest;
use gw_host::Health;

use crate::log::Record;
use crate::{DeployError, Deployments, Fallback};

/// A revision of which a plugin keeps failing.
#[derive(Clone, Debug)]
pub(crate) struct Failing {
    pub(crate) app: String,
    pub(crate) revision: Digest,
    /// Which plugin, and how it failed last.
    pub(crate) reason: String,
}

/// What watches the plugins of the revisions that are loaded.
#[derive(Clone)]
pub(crate) struct Watch {
    failures_max: u32,
    failing: Sender<Failing>,
}

impl Watch {
    pub(crate) fn new(failures_max: u32) -> (Self, Receiver<Failing>) {
        let (failing, received) = channel();
        (Self { failures_max, failing }, received)
    }

    /// The health of one plugin of a revision.
    pub(crate) fn over(&self, app: &str, revision: Digest, plugin: &str) -> Health {
        let (app, plugin, failing) = (app.to_owned(), plugin.to_owned(), self.failing.clone());
        Health::watched(
            self.failures_max,
            Arc::new(move |how| {
                let reason = format!("plugin {plugin}: {how}");
                // Nobody listens once the deployments are gone, and nothing is live then.
                let _ = failing.send(Failing { app: app.clone(), revision, reason });
            }),
        )
    }
}

/// Serves what is sent until the deployments are gone.
pub(crate) fn start(
    deployments: &Arc<Deployments>,
    failing: Receiver<Failing>,
) -> Result<(), DeployError> {
    let weak: Weak<Deployments> = Arc::downgrade(deployments);
    let serve = move || {
        for failing in failing {
            let Some(deployments) = weak.upgrade() else { return };
            let (app, revision) = (failing.app.clone(), failing.revision);
            if let Err(error) = deployments.quarantine(failing) {
                let reason = crate::deployments::chain(&error);
                tracing::error!(app, %revision, reason, "a failing revision was left live");
            }
        }
    };
    let spawned = std::thread::Builder::new().name("gw-quarantine".to_owned()).spawn(serve);
    spawned.map(drop).map_err(|error| DeployError::Panicked { reason: error.to_string() })
}

impl Deployments {
    /// Makes the last revision live that loads and is not in quarantine itself. Where there is
    /// none, the failing one stays.
    fn quarantine(&self, failing: Failing) -> Result<(), DeployError> {
        let Failing { app, revision, reason } = failing;
        let mut changes = self.changes();
        // What was replaced meanwhile hurts nobody any more.
        if changes.live.get(&app).is_none_or(|live| live.digest != revision) {
            return Ok(());
        }
        let Some(releases) = changes.ledger.apps.get(&app).cloned() else { return Ok(()) };
        let usable =
            |candidate: &Digest| *candidate != revision && releases.quarantine(candidate).is_none();
        let candidates = releases.candidates().into_iter();
        let mut usable = candidates.filter(|release| usable(&release.revision));
        let Some((table, good)) =
            usable.find_map(|release| self.staged(&changes, &app, release).ok())
        else {
            tracing::error!(app, %revision, reason, "keeps failing; push one that works");
            return Ok(());
        };
        let (name, at) = (app.clone(), crate::deployments::now());
        let record = Record::Quarantined { app: name, revision, reason: reason.clone(), at };
        changes.record(&record)?;
        self.swap(&mut changes, &good, table);
        let wanted = releases.wanted;
        let reason = format!("{revision} is in quarantine: {reason}");
        let live = good.digest;
        tracing::error!(app, %wanted, %live, reason, "fell back from a failing revision");
        changes.fallbacks.insert(app, Fallback { wanted, reason });
        self.publish_status(&changes);
        Ok(())
    }
}
