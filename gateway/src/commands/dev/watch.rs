//! What `gw dev` watches: the app's own files and its plugins' sources, never what a build writes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use notify::event::{EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::app::App;

/// Editors write a file in several steps; a build starts when nothing happened for this long.
const QUIET: Duration = Duration::from_millis(150);

/// Reports changes of sources.
pub(super) struct Watch {
    watcher: RecommendedWatcher,
    changed: Arc<Notify>,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches the sources of `app`.
    ///
    /// # Errors
    /// Where the system cannot watch files.
    pub(super) fn start(app: &App) -> anyhow::Result<Self> {
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An event that was lost may have been a change.
            if event.as_ref().map_or(true, is_change) {
                notify.notify_one();
            }
        })
        .context("watching files")?;
        let mut watch = Self { watcher, changed, folders: BTreeSet::new() };
        watch.follow(app);
        Ok(watch)
    }

    /// Watches what `app` consists of now; new folders are found this way. A folder that cannot
    /// be watched has just been removed, or is reported once and left out.
    pub(super) fn follow(&mut self, app: &App) {
        let now = folders(app);
        for gone in self.folders.difference(&now) {
            // A removed folder is no longer watched anyway.
            let _ = self.watcher.unwatch(gone);
        }
        for new in now.difference(&self.folders) {
            if let Err(error) = self.watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %new.display(), %error, "not watched");
            }
        }
        self.folders = now;
    }

    /// Waits for a change, and then until nothing changes any more. Changes that happened since
    /// the last call count.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
        while tokio::time::timeout(QUIET, self.changed.notified()).await.is_ok() {}
    }
}

/// Every folder with sources. Each is watched by itself, because watching a tree would include
/// the `target` folders, where a build makes thousands of events.
fn folders(app: &App) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    collect(&app.folder, &mut found);
    for plugin in &app.manifest.plugins {
        let path = app.plugin_path(plugin);
        if path.is_dir() {
            collect(&path, &mut found);
        } else if let Some(folder) = path.parent() {
            found.insert(folder.to_path_buf());
        }
    }
    found
}

fn collect(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    if !found.insert(folder.to_path_buf()) {
        return;
    }
    for entry in entries.flatten() {
        // A link may lead anywhere, even back here.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && !is_ignored(&entry.path()) {
            collect(&entry.path(), found);
        }
    }
}

/// What builds and tools write, version control, and editors' own files.
fn is_ignored(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name == "target"
        // Whatever else a cargo was told to build into; it marks the folder.
        || path.join("CACHEDIR.TAG").is_file()
        || matches!(&*name, "Cargo.lock" | "package-lock.json" | "node_modules" | "__pycache__")
        || name == "4913"
        || name.starts_with('.')
        || name.ends_with('~')
        || name.ends_with(".egg-info")
        || name.ends_with(".swp")
}

/// Cargo makes `target` under another name, such as `targetA1b2C3`, and renames it then.
fn is_new_target(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let random = name.strip_prefix("target").unwrap_or_default();
    random.len() == 6 && random.chars().all(|c| c.is_ascii_alphanumeric())
}

fn is_change(event: &Event) -> bool {
    let kind = match event.kind {
        EventKind::Modify(ModifyKind::Metadata(_)) | EventKind::Access(_) => false,
        EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Any
        | EventKind::Other => true,
    };
    // An event without a path says that events were lost.
    let is_source = |path: &PathBuf| !is_ignored(path) && !is_new_target(path);
    kind && (event.paths.is_empty() || event.paths.iter().any(is_source))
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, DataChange, MetadataKind};

    use super::*;

    #[test]
    fn builds_and_editors_cause_no_change() {
        let write = EventKind::Modify(ModifyKind::Data(DataChange::Content));
        let cases = [
            (write, "plugin/src/lib.rs", true),
            (EventKind::Create(CreateKind::File), "gw.toml", true),
            (write, "plugin/Cargo.lock", false),
            (write, "plugin/package-lock.json", false),
            (EventKind::Create(CreateKind::Folder), "plugin/.venv", false),
            (write, "plugin/index.js", true),
            (write, "plugin/app.py", true),
            (EventKind::Create(CreateKind::Folder), "plugin/target", false),
            (EventKind::Create(CreateKind::Folder), "plugin/targetA1b2C3", false),
            (EventKind::Create(CreateKind::Folder), "plugin/src/targets", true),
            (write, "plugin/src/target.rs", true),
            (write, "plugin/src/.lib.rs.swp", false),
            (write, "plugin/src/lib.rs~", false),
            (EventKind::Access(AccessKind::Read), "plugin/src/lib.rs", false),
            (
                EventKind::Modify(ModifyKind::Metadata(MetadataKind::WriteTime)),
                "plugin/src/lib.rs",
                false,
            ),
        ];
        for (kind, path, expected) in cases {
            let event = Event::new(kind).add_path(path.into());
            assert_eq!(is_change(&event), expected, "{kind:?} {path}");
        }
        assert!(is_change(&Event::new(EventKind::Other)), "lost events may have been changes");
    }

    #[test]
    fn target_folders_are_not_watched() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["plugin/src/deep", "plugin/target/release", ".git/objects"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        // A target folder of another name.
        std::fs::create_dir_all(root.path().join("plugin/out/release")).unwrap();
        std::fs::write(root.path().join("plugin/out/CACHEDIR.TAG"), "").unwrap();
        let mut found = BTreeSet::new();
        collect(root.path(), &mut found);
        let expected = ["", "plugin", "plugin/src", "plugin/src/deep"];
        assert_eq!(found, expected.map(|folder| root.path().join(folder)).into());
    }
}
