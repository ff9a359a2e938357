//! The payload of a bundle: a tar with fixed names, in a fixed order, without times or owners.

use std::collections::HashSet;
use std::io::Read;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{BundleContent, BundleError, BundledModel};
use crate::Digest;
use crate::manifest::{is_asset_name, is_name};

/// More files than any app has; an archive of millions of empty ones must not fill the memory.
const ENTRIES_MAX: usize = 10_000;
const MANIFEST: &str = "gw.toml";
const MODELS: &str = "models.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelRow {
    name: String,
    digest: Digest,
    bundled: bool,
}

pub(super) fn write(content: &BundleContent) -> Result<Vec<u8>, BundleError> {
    let BundleContent { manifest_text, plugins, assets, models } = content;
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, MANIFEST, manifest_text.as_bytes())?;
    let mut models: Vec<_> = models.iter().collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    let rows: Vec<_> = models
        .iter()
        .map(|model| ModelRow {
            name: model.name.clone(),
            digest: model.digest,
            bundled: model.bytes.is_some(),
        })
        .collect();
    add(&mut tar, MODELS, &serde_json::to_vec(&rows).expect("rows of text are JSON"))?;
    for (name, bytes) in sorted(plugins) {
        if !is_name(name) {
            return Err(corrupt(format!("`{name}` is no name of a plugin")));
        }
        add(&mut tar, &format!("plugins/{name}.wasm"), bytes)?;
    }
    for (name, bytes) in sorted(assets) {
        if !is_asset_name(name) {
            return Err(corrupt(format!("`{name}` is no name of an asset")));
        }
        add(&mut tar, &format!("assets/{name}"), bytes)?;
    }
    let mut written = HashSet::new();
    for model in models {
        if let Some(bytes) = &model.bytes
            && written.insert(model.digest)
        {
            add(&mut tar, &format!("models/{}.onnx", model.digest.hex()), bytes)?;
        }
    }
    tar.into_inner().map_err(|error| corrupt(error.to_string()))
}

fn sorted(files: &[(String, Bytes)]) -> Vec<(&str, &Bytes)> {
    let mut files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes)).collect();
    files.sort_by_key(|(name, _)| *name);
    files
}

fn add(tar: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o444);
    header.set_mtime(0);
    tar.append_data(&mut header, name, bytes).map_err(|error| corrupt(format!("{name}: {error}")))
}

pub(super) fn read(payload: &[u8]) -> Result<BundleContent, BundleError> {
    let mut manifest_text = None;
    let mut rows: Option<Vec<ModelRow>> = None;
    let (mut plugins, mut assets, mut files) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    let mut archive = tar::Archive::new(payload);
    let unreadable = |error: std::io::Error| corrupt(format!("its archive: {error}"));
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| corrupt("a file name is not UTF-8".to_owned()))?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(corrupt(format!("`{name}` is not a plain file")));
        }
        if seen.len() >= ENTRIES_MAX {
            return Err(corrupt(format!("it has more than {ENTRIES_MAX} files")));
        }
        if !seen.insert(name.clone()) {
            return Err(corrupt(format!("it has two files called `{name}`")));
        }
        // Nothing is allocated for a size that the payload does not hold.
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 != entry.size() {
            return Err(corrupt(format!("`{name}` is cut short")));
        }
        match sort_out(&name)? {
            Kind::Manifest => {
                let text = String::from_utf8(bytes);
                manifest_text = Some(text.map_err(|_| corrupt("gw.toml is not UTF-8".to_owned()))?);
            }
            Kind::Models => {
                let parsed = serde_json::from_slice(&bytes);
                rows = Some(parsed.map_err(|error| corrupt(format!("{MODELS}: {error}")))?);
            }
            Kind::Plugin(name) => plugins.push((name.to_owned(), bytes.into())),
            Kind::Asset(name) => assets.push((name.to_owned(), bytes.into())),
            Kind::Model(digest) => {
                if Digest::of(&bytes) != digest {
                    return Err(corrupt(format!("`{name}` does not have the digest of its name")));
                }
                files.push((digest, Bytes::from(bytes)));
            }
        }
    }
    let models = resolve(rows.ok_or_else(|| corrupt(format!("{MODELS} is missing")))?, &files)?;
    let manifest_text = manifest_text.ok_or_else(|| corrupt(format!("{MANIFEST} is missing")))?;
    Ok(BundleContent { manifest_text, plugins, assets, models })
}

fn resolve(
    rows: Vec<ModelRow>,
    files: &[(Digest, Bytes)],
) -> Result<Vec<BundledModel>, BundleError> {
    rows.into_iter()
        .map(|ModelRow { name, digest, bundled }| {
            let file = files.iter().find(|(other, _)| *other == digest);
            match (bundled, file) {
                (false, _) => Ok(BundledModel { name, digest, bytes: None }),
                (true, Some((_, bytes))) => {
                    Ok(BundledModel { name, digest, bytes: Some(bytes.clone()) })
                }
                (true, None) => Err(corrupt(format!("the file of model `{name}` is missing"))),
            }
        })
        .collect()
}

enum Kind<'n> {
    Manifest,
    Models,
    Plugin(&'n str),
    Asset(&'n str),
    Model(Digest),
}

fn sort_out(name: &str) -> Result<Kind<'_>, BundleError> {
    let unexpected = || corrupt(format!("it has an unexpected file `{name}`"));
    if let Some(asset) = name.strip_prefix("assets/") {
        return if is_asset_name(asset) { Ok(Kind::Asset(asset)) } else { Err(unexpected()) };
    }
    if let Some(plugin) = name.strip_prefix("plugins/").and_then(|n| n.strip_suffix(".wasm")) {
        return if is_name(plugin) { Ok(Kind::Plugin(plugin)) } else { Err(unexpected()) };
    }
    if let Some(hex) = name.strip_prefix("models/").and_then(|n| n.strip_suffix(".onnx")) {
        return hex.parse().map(Kind::Model).map_err(|_| unexpected());
    }
    match name {
        MANIFEST => Ok(Kind::Manifest),
        MODELS => Ok(Kind::Models),
        _ => Err(unexpected()),
    }
}

fn corrupt(what: String) -> BundleError {
    BundleError::Corrupt { what }
}
