//! ONNX Runtime's embeddings of five sentences, the yardstick for `examples/01-embed`.

pub mod media;
pub mod photos;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use gw_artifact::manifest::Manifest;
use serde::Deserialize;

use crate::{fetch, repo};

/// One sentence as ONNX Runtime sees it.
#[derive(Debug, Deserialize)]
pub struct Embedding {
    /// How many tokens the sentence has, with those that the tokenizer adds.
    pub tokens: u64,
    /// Whether it was longer than the model takes.
    #[serde(default)]
    pub truncated: bool,
    /// Mean-pooled and of unit length, `[384]`.
    pub embedding: Vec<f64>,
}

/// The five English and French sentences.
///
/// # Errors
/// Where `tests/reference/sentences.json` cannot be read.
pub fn sentences() -> Result<Vec<String>> {
    read_json("sentences.json")
}

/// The stored embeddings of [`sentences`], written by `tests/reference/embed.py`.
///
/// # Errors
/// Where `tests/reference/embeddings.json` cannot be read.
pub fn embeddings() -> Result<Vec<Embedding>> {
    read_json("embeddings.json")
}

/// Runs ONNX Runtime now, on the model and the tokenizer that `examples/01-embed` names.
///
/// # Errors
/// Where a file, Python, its packages or the run fail; the output of what failed is in the error.
pub fn embed_now(sentences: &[String]) -> Result<Vec<Embedding>> {
    let (manifest, _) = Manifest::open(&repo().join("examples/01-embed"))?;
    let model = manifest.models.first().context("the example has a model")?;
    let tokenizer = manifest.assets.first().context("the example has a tokenizer")?;
    let model = fetch(&model.source, model.sha256.as_ref())?;
    let tokenizer = fetch(&tokenizer.source, tokenizer.sha256.as_ref())?;
    run_onnx_runtime(&model, &tokenizer, sentences)
}

/// The same on these files, in a Python environment that is made where it is missing.
fn run_onnx_runtime(
    model: &Path,
    tokenizer: &Path,
    sentences: &[String],
) -> Result<Vec<Embedding>> {
    let mut child = Command::new(python()?)
        .arg(repo().join("tests/reference/embed.py"))
        .args([model, tokenizer])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the reference")?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    stdin.write_all(&serde_json::to_vec(sentences)?)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("tests/reference/embed.py failed; its error is above");
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The folder of an app in `plugins/`, whose model is made where it has to be converted.
///
/// # Errors
/// Where that fails.
pub fn app(plugin: &str) -> Result<PathBuf> {
    let app = repo().join("plugins").join(plugin);
    let script = app.join("make-model");
    if script.exists() && !Command::new(&script).arg(python()?).status()?.success() {
        bail!("{} failed; its error is above", script.display());
    }
    Ok(app)
}

/// The interpreter of `target/reference`, with the packages of `tests/reference/requirements.txt`.
///
/// # Errors
/// Where Python or a package cannot be had.
pub fn python() -> Result<std::path::PathBuf> {
    let environment = repo().join("target/reference");
    let python = environment.join("bin/python");
    let ready = environment.join("ready");
    let requirements = repo().join("tests/reference/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)?;
    if std::fs::read_to_string(&ready).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let step = |command: &mut Command| -> Result<()> {
        let output = command.output().with_context(|| format!("starting {command:?}"))?;
        if !output.status.success() {
            bail!("{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    };
    step(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    step(Command::new(&python).args(["-m", "pip", "install", "-q", "-r"]).arg(&requirements))?;
    std::fs::write(&ready, wanted)?;
    Ok(python)
}

/// The cosine of the angle between `a` and `b`.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn read_json<T: for<'de> Deserialize<'de>>(name: &str) -> Result<T> {
    let path = repo().join("tests/reference").join(name);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
