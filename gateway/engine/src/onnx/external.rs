//! Tensor data in files beside the model.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::proto::StringStringEntryProto;
use crate::graph::Digester;

/// Where external data lies, and the digest of what was read of it.
#[derive(Debug, Default)]
pub(super) struct Beside<'a> {
    /// The model's folder; `None` for a model from memory.
    pub(super) folder: Option<&'a Path>,
    /// Takes in everything that is read.
    pub(super) digest: RefCell<Digester>,
}

/// Reads the range that `entries` name, from a file beside the model.
///
/// The path must be relative and stay below the model's folder, also through links. `expected`
/// is what the tensor's type and shape need: nothing is allocated for a file that has less.
pub(super) fn read(
    entries: &[StringStringEntryProto],
    beside: &Beside<'_>,
    expected: usize,
) -> Result<Bytes, String> {
    let entries: HashMap<&str, &str> =
        entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
    let folder = beside.folder.ok_or("external data needs a model that is opened from a file")?;
    let location = *entries.get("location").ok_or("external data has no `location`")?;
    let path = checked_path(folder, location)?;
    let number = |key: &str| -> Result<Option<u64>, String> {
        let parse = |text: &&str| {
            text.parse().map_err(|_| format!("external data has {key} `{text}`, not a number"))
        };
        entries.get(key).map(parse).transpose()
    };
    let offset = number("offset")?.unwrap_or(0);
    let cause = |error: std::io::Error| format!("external data `{location}`: {error}");
    let mut file = File::open(&path).map_err(cause)?;
    let file_bytes = file.metadata().map_err(cause)?.len();
    let available = file_bytes.saturating_sub(offset);
    let given = number("length")?.unwrap_or(available);
    if given != expected as u64 || given > available {
        return Err(format!(
            "external data `{location}` gives {given} bytes at {offset} of {file_bytes}, but the \
             tensor has {expected}"
        ));
    }
    let mut bytes = vec![0; expected];
    file.seek(SeekFrom::Start(offset)).map_err(cause)?;
    file.read_exact(&mut bytes).map_err(cause)?;
    beside.digest.borrow_mut().add(&bytes);
    Ok(bytes.into())
}

fn checked_path(folder: &Path, location: &str) -> Result<PathBuf, String> {
    let relative = Path::new(location);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || !relative.components().all(plain) {
        return Err(format!("external data path `{location}` leaves the folder of the model"));
    }
    let cause = |error: std::io::Error| format!("external data `{location}`: {error}");
    let root = folder.canonicalize().map_err(cause)?;
    let path = root.join(relative).canonicalize().map_err(cause)?;
    if !path.starts_with(&root) {
        return Err(format!("external data path `{location}` leaves the folder of the model"));
    }
    Ok(path)
}
