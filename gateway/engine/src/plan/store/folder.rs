//! A folder of files that appear whole and go when the folder grows over its bound.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;

use crate::device::pages;

/// What is ours in the folder, by the end of its name; nothing else is touched. A file that is
/// being written counts too: what a process that died left behind grows old as all do.
const ENDINGS: [&str; 5] = ["plan", "weights", "tuning", "trial", "part"];

/// The folder. It is made by the first write.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    bytes_max: u64,
}

impl Folder {
    pub(super) fn new(dir: PathBuf, bytes_max: u64) -> Self {
        Self { dir, bytes_max }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Everything in a file of at most `bytes_max` bytes; `None` where it cannot be had.
    pub(super) fn read(&self, name: &str, bytes_max: u64) -> Option<Bytes> {
        let path = self.dir.join(name);
        // Of what is no file, such as a pipe, even the opening may never end.
        let bytes = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
        if bytes > bytes_max {
            return None;
        }
        pages::read(&File::open(&path).ok()?, usize::try_from(bytes).ok()?).ok()
    }

    /// Fills `data` with the beginning of a file; `None` where it has less.
    pub(super) fn read_into(&self, name: &str, data: &mut [u8]) -> Option<()> {
        File::open(self.dir.join(name)).ok()?.read_exact(data).ok()
    }

    /// Whether a file of this size is there. If so, it counts as used.
    pub(super) fn holds(&self, name: &str, bytes: u64) -> bool {
        let found = fs::metadata(self.dir.join(name));
        let holds = found.is_ok_and(|found| found.is_file() && found.len() == bytes);
        if holds {
            self.touch(name);
        }
        holds
    }

    /// Notes that a file was used now. Where that cannot be written, it only goes earlier.
    pub(super) fn touch(&self, name: &str) {
        let file = File::options().write(true).open(self.dir.join(name));
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Removes a file that is of no use. Another process may have done so.
    pub(super) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.dir.join(name));
    }

    /// Removes what was used longest ago until `bytes` more are within the bound.
    pub(super) fn make_room(&self, bytes: u64) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if !ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
                continue;
            }
            // It may be gone by now.
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            files.push((found.modified()?, path, found.len()));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, freed) in files {
            if total.saturating_add(bytes) <= self.bytes_max {
                break;
            }
            match fs::remove_file(&path) {
                Ok(()) => total -= freed,
                Err(error) if error.kind() == io::ErrorKind::NotFound => total -= freed,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes a file under another name, and gives it its own once it is whole.
    pub(super) fn write(&self, name: &str, data: &[u8]) -> io::Result<()> {
        let part = self.dir.join(part_name(name));
        let write = |mut file: File| {
            file.write_all(data)?;
            // The system's own time of a write is up to a tick behind, and older than a touch.
            file.set_modified(SystemTime::now())
        };
        let written = File::create_new(&part).and_then(write);
        let written = written.and_then(|()| fs::rename(&part, self.dir.join(name)));
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }
}

/// A name that no other writer has, in this process or in another.
fn part_name(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // Processes in two containers may have one id.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{name}.{}-{}-{count}.part", std::process::id(), now.as_nanos())
}
