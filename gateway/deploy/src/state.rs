//! What survives a restart: the directory of bundles and releases, and the ledger of both.
//!
//! ```text
//! STATE/lock           held by the one process that uses the directory
//! STATE/releases.log   what was pushed and rolled back (see `log`)
//! STATE/bundles/       every bundle that can be rolled back to, by digest
//! STATE/content/       files that loaded revisions read; rebuilt from the bundles at will
//! STATE/keyvalue/      the buckets of plugins, which belong to no release (see `gw-host`)
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use gw_artifact::Digest;
use gw_artifact::disk::{create_private, remove_half_written};
use gw_artifact::store::BlobStore;

use crate::DeployError;
use crate::log::{FILE_NAME, Record, ReleaseLog};

/// Past this many records the log is rewritten at the next start. A record has some 300 bytes.
const RECORDS_MAX: usize = 4096;

/// The open state directory.
pub(crate) struct StateDir {
    root: PathBuf,
    bundles: BlobStore,
    log: ReleaseLog,
    /// The log lost a record, so a bundle that nothing names may still be wanted.
    damaged: bool,
    /// Released by the system when the process ends, however it ends.
    _lock: File,
}

impl StateDir {
    /// Opens or creates the directory, takes its lock and replays its log.
    pub(crate) fn open(root: &Path) -> Result<(Self, Ledger), DeployError> {
        create_private(root).map_err(DeployError::state("creating the state directory", root))?;
        let lock = lock(root)?;
        remove_half_written(root).map_err(DeployError::state("tidying", root))?;
        let bundles_dir = root.join("bundles");
        let bundles = BlobStore::open(&bundles_dir)
            .map_err(DeployError::state("opening the stored bundles", &bundles_dir))?;
        let log_path = root.join(FILE_NAME);
        let (mut log, replay) = ReleaseLog::open(root)
            .map_err(DeployError::state("opening the release log", &log_path))?;
        if replay.torn_bytes > 0 {
            tracing::warn!(bytes = replay.torn_bytes, "cut off a torn end of the release log");
        }
        if replay.damaged_lines > 0 {
            tracing::error!(
                lines = replay.damaged_lines,
                "skipped damaged lines of the release log"
            );
        }
        let mut ledger = Ledger::default();
        replay.records.iter().for_each(|record| ledger.apply(record));
        if replay.records.len() > RECORDS_MAX {
            log.rewrite(&ledger.records())
                .map_err(DeployError::state("rewriting the release log", &log_path))?;
        }
        let (root, damaged) = (root.to_owned(), replay.damaged_lines > 0);
        Ok((Self { root, bundles, log, damaged, _lock: lock }, ledger))
    }

    /// Stores a bundle; it is on the disk when this returns.
    pub(crate) fn put(&self, bundle: &[u8]) -> Result<Digest, DeployError> {
        let stored = self.bundles.put(bundle);
        stored.map_err(DeployError::state("storing the bundle in", &self.root))
    }

    /// The stored bundle of a release, checked against its digest.
    pub(crate) fn bundle(&self, release: &Release) -> Result<Bytes, DeployError> {
        self.bundles.get(&release.bundle).map_err(|error| DeployError::StoredBundle {
            revision: release.revision,
            reason: error.to_string(),
        })
    }

    /// Writes a record; it is on the disk when this returns.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), DeployError> {
        let path = self.root.join(FILE_NAME);
        self.log.append(record).map_err(DeployError::state("writing the release log", &path))
    }

    /// Removes the bundles that the ledger does not name.
    pub(crate) fn retain(&self, keep: impl Fn(&Digest) -> bool) -> Result<(), DeployError> {
        if self.damaged {
            return Ok(());
        }
        let removed = self.bundles.gc(keep);
        removed.map(drop).map_err(DeployError::state("removing old bundles from", &self.root))
    }
}

/// What was released and what of it is wanted, as the log tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) apps: BTreeMap<String, AppLedger>,
}

/// The releases of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppLedger {
    /// What can be rolled back to, the oldest release first.
    pub(crate) releases: Vec<Release>,
    /// What was pushed or rolled back to last.
    pub(crate) wanted: Digest,
    /// The revisions that kept failing, and how.
    pub(crate) quarantined: Vec<(Digest, String)>,
}

/// One release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) revision: Digest,
    pub(crate) bundle: Digest,
    pub(crate) version: String,
    pub(crate) signer: String,
    pub(crate) at: u64,
}

impl Ledger {
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Released { app, revision, bundle, version, signer, at } => {
                let app = self.apps.entry(app.clone()).or_insert_with(|| AppLedger::new(*revision));
                app.acquit(revision);
                app.releases.retain(|release| release.revision != *revision);
                app.releases.push(Release {
                    revision: *revision,
                    bundle: *bundle,
                    version: version.clone(),
                    signer: signer.clone(),
                    at: *at,
                });
                app.wanted = *revision;
            }
            Record::RolledBack { app, revision, at: _ } => {
                if let Some(app) = self.apps.get_mut(app)
                    && app.position(revision).is_some()
                {
                    app.wanted = *revision;
                    app.acquit(revision);
                }
            }
            Record::Quarantined { app, revision, reason, at: _ } => {
                if let Some(app) = self.apps.get_mut(app)
                    && app.position(revision).is_some()
                {
                    app.acquit(revision);
                    app.quarantined.push((*revision, reason.clone()));
                }
            }
            Record::Dropped { app, revision } => {
                if let Some(app) = self.apps.get_mut(app) {
                    app.acquit(revision);
                    app.releases.retain(|release| release.revision != *revision);
                }
            }
        }
    }

    /// The shortest records that give this ledger.
    fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for (name, app) in &self.apps {
            records.extend(app.releases.iter().map(|release| Record::Released {
                app: name.clone(),
                revision: release.revision,
                bundle: release.bundle,
                version: release.version.clone(),
                signer: release.signer.clone(),
                at: release.at,
            }));
            let revision = app.wanted;
            records.push(Record::RolledBack { app: name.clone(), revision, at: 0 });
            records.extend(app.quarantined.iter().map(|(revision, reason)| {
                let (app, reason) = (name.clone(), reason.clone());
                Record::Quarantined { app, revision: *revision, reason, at: 0 }
            }));
        }
        records
    }

    /// Whether any app can still roll back to what this bundle holds.
    pub(crate) fn needs(&self, bundle: &Digest) -> bool {
        let mut releases = self.apps.values().flat_map(|app| &app.releases);
        releases.any(|release| release.bundle == *bundle)
    }
}

impl AppLedger {
    fn new(wanted: Digest) -> Self {
        Self { releases: Vec::new(), wanted, quarantined: Vec::new() }
    }

    /// Why a revision is in quarantine, if it is.
    pub(crate) fn quarantine(&self, revision: &Digest) -> Option<&str> {
        let found = self.quarantined.iter().find(|(quarantined, _)| quarantined == revision)?;
        Some(&found.1)
    }

    fn acquit(&mut self, revision: &Digest) {
        self.quarantined.retain(|(quarantined, _)| quarantined != revision);
    }

    pub(crate) fn position(&self, revision: &Digest) -> Option<usize> {
        self.releases.iter().position(|release| release.revision == *revision)
    }

    /// What to try at a start: what is wanted, then what was released before it, then the rest,
    /// the newest first. Whatever is in quarantine comes last: it is better than nothing.
    pub(crate) fn candidates(&self) -> Vec<&Release> {
        let wanted = self.position(&self.wanted).map_or(self.releases.len(), |at| at + 1);
        let (older, newer) = self.releases.split_at(wanted);
        let mut candidates: Vec<_> = older.iter().rev().chain(newer.iter().rev()).collect();
        candidates.sort_by_key(|release| self.quarantine(&release.revision).is_some());
        candidates
    }

    /// The oldest releases beyond `kept`, never one of `needed`.
    pub(crate) fn surplus(&self, kept: usize, needed: &[Digest]) -> Vec<Digest> {
        let surplus = self.releases.len().saturating_sub(kept.max(1));
        let old = self.releases.iter().map(|release| release.revision);
        old.filter(|revision| !needed.contains(revision)).take(surplus).collect()
    }
}

fn lock(root: &Path) -> Result<File, DeployError> {
    let path = root.join("lock");
    let failed = |source| DeployError::State { action: "locking", path: path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DeployError::Locked { dir: root.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn released(n: u8) -> Record {
        Record::Released {
            app: "demo".into(),
            revision: digest(n),
            bundle: digest(n),
            version: format!("0.{n}.0"),
            signer: "ed25519:key".into(),
            at: n.into(),
        }
    }

    fn quarantined(n: u8) -> Record {
        let reason = "it traps".to_owned();
        Record::Quarantined { app: "demo".into(), revision: digest(n), reason, at: 9 }
    }

    fn rolled_back(n: u8) -> Record {
        Record::RolledBack { app: "demo".into(), revision: digest(n), at: 9 }
    }

    fn ledger(records: &[Record]) -> Ledger {
        let mut ledger = Ledger::default();
        for record in records {
            ledger.apply(record);
        }
        ledger
    }

    #[test]
    fn a_start_tries_what_is_wanted_then_what_came_before_it() {
        let ledger = ledger(&[released(1), released(2), released(3), released(4), rolled_back(3)]);
        let candidates = ledger.apps["demo"].candidates();
        let candidates: Vec<_> = candidates.iter().map(|release| release.revision).collect();
        assert_eq!(candidates, [3, 2, 1, 4].map(digest));
    }

    #[test]
    fn a_quarantine_lasts_until_the_revision_is_asked_for_again() {
        let failing = [released(1), released(2), released(3), quarantined(3), quarantined(1)];
        let app = ledger(&failing).apps["demo"].clone();
        let candidates: Vec<_> = app.candidates().iter().map(|release| release.revision).collect();
        assert_eq!(candidates, [2, 3, 1].map(digest));
        assert_eq!(app.quarantine(&digest(3)), Some("it traps"));
        assert_eq!(ledger(&ledger(&failing).records()), ledger(&failing), "also when rewritten");
        for again in [released(3), rolled_back(3)] {
            let app = ledger(&[&failing[..], &[again]].concat()).apps["demo"].clone();
            assert_eq!(app.quarantine(&digest(3)), None);
            assert_eq!(app.candidates()[0].revision, digest(3));
        }
    }

    #[test]
    fn the_oldest_revisions_are_dropped_but_never_the_live_one() {
        let ledger = ledger(&[released(1), released(2), released(3), released(4), rolled_back(1)]);
        let app = &ledger.apps["demo"];
        assert_eq!(app.surplus(2, &[digest(1)]), [2, 3].map(digest));
        assert_eq!(app.surplus(10, &[digest(1)]), []);
        assert_eq!(app.surplus(0, &[digest(1)]).len(), 3);
    }

    #[test]
    fn a_revision_pushed_again_is_one_release_and_the_newest() {
        let ledger = ledger(&[released(1), released(2), released(1)]);
        let app = &ledger.apps["demo"];
        assert_eq!(app.releases.len(), 2);
        assert_eq!((app.position(&digest(1)), app.wanted), (Some(1), digest(1)));
    }

    #[test]
    fn the_shortest_records_give_the_same_ledger() {
        let dropped = Record::Dropped { app: "demo".into(), revision: digest(1) };
        let ledger1 = ledger(&[released(1), released(2), released(3), rolled_back(2), dropped]);
        assert_eq!(ledger(&ledger1.records()), ledger1);
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(DeployError::Locked { .. })));
        drop(first);
        assert!(StateDir::open(dir.path()).is_ok());
    }
}
