//! `tests/reference/plugins_media.py`: pages and sounds whose content is known, and what ONNX
//! Runtime makes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::python;
use crate::repo;

/// Where Debian's package pocketsphinx-testdata has its clips.
const CLIPS: &str = "/usr/share/pocketsphinx/test/data";

/// What the script prints for a task.
///
/// # Errors
/// Where Python or the script fails, with its output.
pub fn told(task: &str, files: &[&Path]) -> Result<Value> {
    let mut script = Command::new(python()?);
    script.arg(repo().join("tests/reference/plugins_media.py")).arg(task);
    let output = script.args(files).output()?;
    ensure!(output.status.success(), "{task}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Draws a page of two lines, turned by `degrees`, and returns them as a list.
///
/// # Errors
/// As for [`told`].
pub fn page(out: &Path, degrees: &str) -> Result<Value> {
    told("page", &[out, Path::new(degrees)])
}

/// Joins ten clips of speech with silence, and returns where they are, in seconds.
///
/// # Errors
/// As for [`told`], and where there are no clips.
pub fn speech(out: &Path) -> Result<Value> {
    let mut clips: Vec<PathBuf> = ["cards", "librivox"]
        .iter()
        .flat_map(|part| fs::read_dir(Path::new(CLIPS).join(part)).into_iter().flatten())
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wav"))
        .collect();
    clips.sort();
    ensure!(clips.len() == 10, "install Debian's pocketsphinx-testdata: {CLIPS}");
    let files: Vec<&Path> = [out].into_iter().chain(clips.iter().map(PathBuf::as_path)).collect();
    told("speech", &files)
}
