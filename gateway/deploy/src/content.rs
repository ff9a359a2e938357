//! The files that a revision's plugins and models read: one read-only directory per revision.
//!
//! The directory is named by the revision's digest and written beside its place, synced and renamed
//! into it, so it is there whole or not at all.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use gw_artifact::Digest;
use gw_artifact::disk::sync_dir;

/// The parent of all content directories.
#[derive(Debug)]
pub(crate) struct ContentStore {
    root: PathBuf,
    /// What loaded revisions still use, so that `retain` leaves it alone.
    in_use: Mutex<HashMap<Digest, Weak<Content>>>,
}

/// One revision's directory; kept on the disk at least as long as this value lives.
#[derive(Debug)]
pub(crate) struct Content {
    dir: PathBuf,
}

/// The folder of a content directory that guests see as `/assets`.
const ASSETS: &str = "assets";
/// The folder that holds bundled model files, named by their digest.
const MODELS: &str = "models";

impl Content {
    /// The directory that guests see as `/assets`.
    pub(crate) fn assets(&self) -> PathBuf {
        self.dir.join(ASSETS)
    }

    /// Where the bundled model file `digest` lies.
    pub(crate) fn model(&self, digest: &Digest) -> PathBuf {
        self.dir.join(MODELS).join(model_file(digest))
    }
}

/// The name of a bundled model file.
fn model_file(digest: &Digest) -> String {
    format!("{}.onnx", digest.hex())
}

impl ContentStore {
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self { root, in_use: Mutex::default() })
    }

    /// The parent of all directories.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes the directory of `revision`, or takes it as it is when it holds exactly these files.
    pub(crate) fn put<'a>(
        &self,
        revision: &Digest,
        assets: impl Iterator<Item = (&'a str, &'a [u8])>,
        models: impl Iterator<Item = (&'a Digest, &'a [u8])>,
    ) -> io::Result<Arc<Content>> {
        let mut files: Vec<(PathBuf, &[u8])> =
            assets.map(|(name, bytes)| (Path::new(ASSETS).join(name), bytes)).collect();
        files.extend(
            models.map(|(digest, bytes)| (Path::new(MODELS).join(model_file(digest)), bytes)),
        );
        let dir = self.root.join(revision.hex());
        if !holds(&dir, &files) {
            self.write(revision, &dir, &files)?;
        }
        let content = Arc::new(Content { dir });
        self.in_use().insert(*revision, Arc::downgrade(&content));
        Ok(content)
    }

    fn write(&self, revision: &Digest, dir: &Path, files: &[(PathBuf, &[u8])]) -> io::Result<()> {
        let temporary = self.root.join(format!("new-{}", revision.hex()));
        remove(&temporary)?;
        fs::create_dir_all(temporary.join(ASSETS))?;
        for (name, bytes) in files {
            let path = temporary.join(name);
            let parent = path.parent().expect("every file lies in a folder of the directory");
            fs::create_dir_all(parent)?;
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            let mut permissions = file.metadata()?.permissions();
            permissions.set_readonly(true);
            file.set_permissions(permissions)?;
            file.sync_all()?;
            sync_dir(parent)?;
        }
        sync_dir(&temporary)?;
        remove(dir)?;
        fs::rename(&temporary, dir)?;
        sync_dir(&self.root)
    }

    /// Removes every directory that is neither in `keep` nor used by a loaded revision.
    pub(crate) fn retain(&self, keep: impl Fn(&Digest) -> bool) -> io::Result<()> {
        let mut in_use = self.in_use();
        in_use.retain(|_, content| content.strong_count() > 0);
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let digest = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok());
            if digest.is_none_or(|digest| !keep(&digest) && !in_use.contains_key(&digest)) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn in_use(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Weak<Content>>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn holds(dir: &Path, files: &[(PathBuf, &[u8])]) -> bool {
    dir.join(ASSETS).is_dir()
        && files.iter().all(|(name, bytes)| {
            let path = dir.join(name);
            let same_length = fs::metadata(&path).is_ok_and(|m| m.len() == bytes.len() as u64);
            same_length && fs::read(&path).is_ok_and(|found| found == *bytes)
        })
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &ContentStore, revision: &Digest, text: &str) -> Arc<Content> {
        let assets = [("words/en.txt", text.as_bytes())];
        store.put(revision, assets.into_iter(), std::iter::empty()).unwrap()
    }

    #[test]
    fn a_damaged_or_half_written_directory_is_written_again() {
        let root = tempfile::tempdir().unwrap();
        let revision = Digest::of(b"one");
        let store = ContentStore::open(root.path().join("content")).unwrap();
        let path = put(&store, &revision, "hello").assets().join("words/en.txt");
        for damage in [Some("hellO"), Some(""), None] {
            fs::remove_file(&path).unwrap();
            if let Some(text) = damage {
                fs::write(&path, text).unwrap();
            }
            put(&store, &revision, "hello");
            assert_eq!(fs::read_to_string(&path).unwrap(), "hello");
        }
    }

    #[test]
    fn only_directories_that_nobody_uses_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let store = ContentStore::open(root.path().to_owned()).unwrap();
        let [kept, used, old] = [b"kept", b"used", b"gone"].map(|name| Digest::of(name));
        let kept_content = put(&store, &kept, "a").assets();
        let used_content = put(&store, &used, "b");
        let old_content = put(&store, &old, "c").assets();
        fs::create_dir(root.path().join(format!("new-{}", old.hex()))).unwrap();

        store.retain(|digest| *digest == kept).unwrap();

        assert!(kept_content.exists() && used_content.assets().exists());
        assert!(!old_content.exists());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
    }
}
