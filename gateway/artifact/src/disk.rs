//! Files that are there whole or not at all, whenever the process or the machine stops.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The start of the names of files that are being written.
const TEMPORARY: &str = ".new-";

/// Puts a file that holds `bytes` at `path`, in place of any other; it is on the disk when this
/// returns. Only its owner can read it.
///
/// # Errors
/// Where it cannot be written; `path` is as it was.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let file = file.persist(path).map_err(|error| error.error)?;
    sync_dir(folder)?;
    Ok(file)
}

/// Removes what an ended process left half written in the folder `dir`. Nobody else may write
/// there meanwhile.
///
/// # Errors
/// Where the folder cannot be read or a file not removed.
pub fn remove_half_written(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the names in the folder `dir` survive a power cut.
///
/// # Errors
/// Where the system refuses.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    // Elsewhere a folder is no file that could be synced.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Creates a folder, and those above it, that no other user can read.
///
/// # Errors
/// Where it cannot be made.
pub fn create_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_the_place_of_another_or_leaves_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(write_whole(&folder.path().join("taken"), b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[cfg(unix)]
    #[test]
    fn other_users_read_neither_files_nor_private_folders() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("a/b");
        create_private(&dir).unwrap();
        write_whole(&dir.join("f"), b"x").unwrap();
        for path in [folder.path().join("a"), dir.clone(), dir.join("f")] {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{path:?}");
        }
    }
}
