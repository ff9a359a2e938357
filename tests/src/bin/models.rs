//! Puts the models that tests of single crates use into a folder: `models DIR`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use gw_artifact::manifest::Manifest;
use gw_tests::{fetch, repo};

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: models DIR")?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder)?;
    let (manifest, _) = Manifest::open(&repo().join("examples/01-embed"))?;
    let model = manifest.models.first().context("the example has a model")?;
    let tokenizer = manifest.assets.first().context("the example has a tokenizer")?;
    let files = [
        ("minilm-int8.onnx", &model.source, model.sha256.as_ref()),
        ("tokenizer.json", &tokenizer.source, tokenizer.sha256.as_ref()),
    ];
    for (name, source, sha256) in files {
        let target = folder.join(name);
        if !target.exists() {
            // Another run may be reading: the name appears only when the file is whole.
            let partial = folder.join(format!(".{name}.{}", std::process::id()));
            fs::copy(fetch(source, sha256)?, &partial)?;
            fs::rename(partial, target)?;
        }
    }
    Ok(())
}
