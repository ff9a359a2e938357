//! Pre-initialised components, kept: a plugin that did not change over assets that did not change
//! is not run again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use bytes::Bytes;
use gw_artifact::disk::write_whole;
use gw_artifact::{Digest, Hasher};

/// How many components are kept. An app has few plugins, and each edit adds one.
const KEPT: usize = 16;

/// Pre-initialises `wasm`, which sees `assets`; `folder` keeps the results.
///
/// # Errors
/// Where the plugin's own `init` fails.
pub(super) fn pre_initialise(
    folder: &Path,
    wasm: &[u8],
    assets: &[(String, Bytes)],
) -> anyhow::Result<Bytes> {
    let file = folder.join(format!("{}.wasm", key(wasm, assets).hex()));
    if let Some(kept) = read(&file) {
        return Ok(kept);
    }
    let seen = tempfile::tempdir().context("making a folder for the assets")?;
    for (name, bytes) in assets {
        let path = seen.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(seen.path()))
            .and_then(|()| fs::write(&path, bytes))
            .with_context(|| format!("writing asset {name}"))?;
    }
    let ready = gw_host::preinit::pre_initialise(wasm, seen.path())?;
    if let Err(error) = write(&file, &ready).and_then(|()| tidy(folder)) {
        tracing::warn!(folder = %folder.display(), %error, "a prepared plugin was not kept");
    }
    Ok(ready.into())
}

/// Everything that decides the result.
fn key(wasm: &[u8], assets: &[(String, Bytes)]) -> Digest {
    let mut hasher = Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(env!("CARGO_PKG_VERSION").as_bytes());
    field(wasm);
    for (name, bytes) in assets {
        field(name.as_bytes());
        field(bytes);
    }
    hasher.finish()
}

/// The component in `file`, unless it is missing or damaged. Its digest stands before it.
fn read(file: &Path) -> Option<Bytes> {
    let bytes = Bytes::from(fs::read(file).ok()?);
    let (digest, wasm) = (bytes.get(..32)?, bytes.slice(32..));
    (Digest::of(&wasm).as_bytes() == digest).then_some(wasm)
}

fn write(file: &Path, wasm: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
    write_whole(file, &[&Digest::of(wasm).as_bytes()[..], wasm].concat()).map(drop)
}

/// Removes all but the newest files.
fn tidy(folder: &Path) -> std::io::Result<()> {
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Another process may just have removed it.
        if let Ok(modified) = entry.metadata().and_then(|data| data.modified()) {
            files.push((modified, entry.path()));
        }
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    for (_, old) in files.iter().skip(KEPT) {
        let _ = fs::remove_file(old);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_component_is_taken_only_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/a.wasm");
        assert_eq!(read(&file), None);
        write(&file, b"component").unwrap();
        assert_eq!(read(&file).as_deref(), Some(&b"component"[..]));
        let mut bytes = fs::read(&file).unwrap();
        bytes.pop();
        fs::write(&file, bytes).unwrap();
        assert_eq!(read(&file), None, "cut short");
    }

    #[test]
    fn whatever_decides_the_result_decides_the_key() {
        let assets = |text: &str| vec![("t".to_owned(), Bytes::from(text.to_owned()))];
        let keys = [
            key(b"a", &assets("x")),
            key(b"b", &assets("x")),
            key(b"a", &assets("y")),
            key(b"a", &[]),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(keys[index + 1..].iter().all(|other| one != other), "{index}");
        }
        assert_eq!(key(b"a", &assets("x")), keys[0]);
    }

    #[test]
    fn old_components_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..KEPT + 3 {
            write(&folder.path().join(index.to_string()), b"x").unwrap();
        }
        tidy(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), KEPT);
    }
}
