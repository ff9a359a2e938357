//! The state behind the live table, as a change reads and writes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use gw_artifact::Digest;
use tempfile::TempDir;

use crate::log::Record;
use crate::state::{AppLedger, Ledger, Release, StateDir};
use crate::{AppStatus, DeployError, Fallback, Revision, RevisionStatus, RouteTable};

/// What a change reads and writes.
pub(crate) struct Changes {
    pub(crate) ledger: Ledger,
    pub(crate) live: BTreeMap<String, Arc<Revision>>,
    pub(crate) fallbacks: BTreeMap<String, Fallback>,
    pub(crate) home: Home,
}

/// Where the node keeps what it needs.
pub(crate) enum Home {
    /// A state directory that survives restarts.
    State(StateDir),
    /// A directory that goes with the process.
    Temporary(#[expect(dead_code, reason = "held for its removal on drop")] TempDir),
}

impl Changes {
    pub(crate) fn new(ledger: Ledger, home: Home) -> Self {
        Self { ledger, live: BTreeMap::new(), fallbacks: BTreeMap::new(), home }
    }

    /// The live revision, if it is this one and nothing else is wanted.
    pub(crate) fn settled(&self, app: &str, revision: &Digest) -> Option<Arc<Revision>> {
        let live = self.live.get(app).filter(|live| live.digest == *revision)?;
        let wanted = self.ledger.apps.get(app).is_some_and(|app| app.wanted == *revision);
        wanted.then(|| Arc::clone(live))
    }

    /// The routes of the node if `revision` were live.
    pub(crate) fn table_with(&self, revision: &Arc<Revision>) -> Result<RouteTable, DeployError> {
        let others = self.live.values().filter(|live| live.app != revision.app).cloned();
        let mut revisions: Vec<_> = others.collect();
        // Last, so that a conflict names the newcomer as the one that is refused.
        revisions.push(Arc::clone(revision));
        RouteTable::build(revisions)
    }

    pub(crate) fn record(&mut self, record: &Record) -> Result<(), DeployError> {
        if let Home::State(state) = &mut self.home {
            state.append(record)?;
        }
        self.ledger.apply(record);
        Ok(())
    }

    /// The release to go back to: the one named, or the one before the live one.
    pub(crate) fn rollback_target(
        &self,
        app: &str,
        revision: Option<Digest>,
    ) -> Result<Release, DeployError> {
        let Some(releases) = self.ledger.apps.get(app) else {
            return Err(DeployError::UnknownApp { app: app.to_owned() });
        };
        let at = if let Some(revision) = revision {
            let unknown = || DeployError::UnknownRevision { app: app.to_owned(), revision };
            releases.position(&revision).ok_or_else(unknown)?
        } else {
            let live = self.live.get(app).map_or(releases.wanted, |live| live.digest);
            let before = releases.position(&live).and_then(|at| at.checked_sub(1));
            before.ok_or_else(|| DeployError::NothingBefore { app: app.to_owned() })?
        };
        Ok(releases.releases[at].clone())
    }

    /// Records that the oldest revisions of each app are forgotten.
    pub(crate) fn drop_surplus(&mut self, kept: usize) -> Result<(), DeployError> {
        let mut dropped = Vec::new();
        for (app, releases) in &self.ledger.apps {
            let mut needed = vec![releases.wanted];
            needed.extend(self.live.get(app).map(|live| live.digest));
            let surplus = releases.surplus(kept, &needed).into_iter();
            dropped.extend(surplus.map(|revision| Record::Dropped { app: app.clone(), revision }));
        }
        dropped.iter().try_for_each(|record| self.record(record))
    }

    pub(crate) fn status(&self) -> Vec<AppStatus> {
        let status = |(app, releases): (&String, &AppLedger)| {
            let live = self.live.get(app).map(|revision| revision.digest);
            let revisions = releases.releases.iter().map(|release| RevisionStatus {
                digest: release.revision,
                version: release.version.clone(),
                created: release.at,
                signer: release.signer.clone(),
                live: live == Some(release.revision),
                quarantined: releases.quarantine(&release.revision).map(str::to_owned),
            });
            AppStatus {
                app: app.clone(),
                live,
                fallback: self.fallbacks.get(app).cloned(),
                revisions: revisions.collect(),
            }
        };
        self.ledger.apps.iter().map(status).collect()
    }
}
