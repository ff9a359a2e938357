//! Blobs on disk, named by their digest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::Digest;
use crate::disk::{remove_half_written, write_whole};

/// A directory of immutable files, each named by the SHA-256 of its content. A file is there whole
/// or not at all, whenever the process or the machine stops.
#[derive(Debug)]
pub struct BlobStore {
    root: PathBuf,
}

impl BlobStore {
    /// Opens or makes the store at `root`, and removes what an ended process left half written.
    /// Only one process may have it open.
    ///
    /// # Errors
    /// Where the directory cannot be made or read.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        remove_half_written(root)?;
        Ok(Self { root: root.to_owned() })
    }

    /// Where the blob `digest` lies, if it is there.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.hex())
    }

    /// Whether the blob is there.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Keeps `bytes`; they are on disk when this returns. Doing it again changes nothing.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn put(&self, bytes: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        if self.get(&digest).is_ok() {
            return Ok(digest);
        }
        write_whole(&self.path(&digest), bytes)?;
        Ok(digest)
    }

    /// The blob, with its digest verified.
    ///
    /// # Errors
    /// Where it is missing, unreadable, or damaged.
    pub fn get(&self, digest: &Digest) -> io::Result<Bytes> {
        let bytes = fs::read(self.path(digest))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            let message = format!("blob {digest} is damaged: it holds {found}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(bytes.into())
    }

    /// Removes every blob that `keep` does not want; gives how many those were.
    ///
    /// # Errors
    /// Where the directory cannot be read or a file not removed.
    pub fn gc(&self, keep: impl Fn(&Digest) -> bool) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let digest = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok());
            if digest.is_some_and(|digest| !keep(&digest)) {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_comes_back_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let store = BlobStore::open(folder.path()).unwrap();
        let digest = store.put(b"blob").unwrap();
        assert_eq!(store.put(b"blob").unwrap(), digest);
        assert_eq!(store.get(&digest).unwrap(), "blob");
        fs::write(store.path(&digest), b"blub").unwrap();
        assert_eq!(store.get(&digest).unwrap_err().kind(), io::ErrorKind::InvalidData);
        store.put(b"blob").unwrap();
        assert_eq!(store.get(&digest).unwrap(), "blob", "a damaged blob is written again");
    }

    #[test]
    fn what_was_half_written_is_gone_after_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".new-abc"), b"half").unwrap();
        let store = BlobStore::open(folder.path()).unwrap();
        let kept = store.put(b"kept").unwrap();
        let dropped = store.put(b"dropped").unwrap();
        store.gc(|digest| *digest == kept).unwrap();
        assert!(store.has(&kept) && !store.has(&dropped));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
