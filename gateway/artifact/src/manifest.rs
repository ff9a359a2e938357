//! The app manifest, `gw.toml`: what an app is made of, and what each part may use.

mod dialect;
mod grants;
mod http;
mod limits;
mod mistake;
pub mod place;
mod reader;
mod sections;
mod serving;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use dialect::{NnDialect, NnDialectError};
pub use grants::Grants;
pub use http::{HttpGrant, canonical_host};
pub use limits::Limits;
pub use mistake::{ManifestError, Mistake};
pub use serving::{Batching, Nan, Serving};

use crate::{ByteSize, Digest, Source};

/// The file's name in an app's folder.
pub const FILE_NAME: &str = "gw.toml";

/// A manifest without mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// `[app]`.
    pub app: App,
    /// `[[model]]`, in the file's order.
    pub models: Vec<ModelEntry>,
    /// `[[asset]]`.
    pub assets: Vec<AssetEntry>,
    /// `[[plugin]]`.
    pub plugins: Vec<PluginEntry>,
    /// `[[route]]`.
    pub routes: Vec<RouteEntry>,
}

/// What the app is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// Letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Any text without spaces; for people.
    pub version: String,
}

/// A model that plugins may load by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// The name by which plugins load it.
    pub name: String,
    /// Where its file comes from.
    pub source: Source,
    /// What the file must be.
    pub sha256: Option<Digest>,
    /// Where it runs, unless the operator says otherwise. Default: `auto`.
    pub device: DevicePreference,
    /// How it is served.
    pub serving: Serving,
}

/// Where a model wants to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DevicePreference {
    /// On the GPU where there is one, else on the CPU.
    #[default]
    Auto,
    /// On a GPU only.
    Gpu,
    /// On the CPU.
    Cpu,
}

/// A file under `/assets` in every guest of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetEntry {
    /// Its path under `/assets`.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// What the file must be.
    pub sha256: Option<Digest>,
}

/// A plugin with its grants: it can use nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginEntry {
    /// The name by which routes call it.
    pub name: String,
    /// Source to build (a folder with a `Cargo.toml`, `package.json` or `pyproject.toml`), or a
    /// `.wasm` file, relative to the manifest: a component that handles requests, or a core module
    /// with a `_start` that answers them the CGI way.
    pub path: PathBuf,
    /// The models that it may load.
    pub models: Vec<String>,
    /// The largest model that it may load from bytes. Default: it may load none.
    pub load: Option<ByteSize>,
    /// What else it may reach.
    pub grants: Grants,
    /// What its failure means for a request, where another plugin comes after it.
    pub failure: Failure,
    /// What one request may cost.
    pub limits: Limits,
    /// What a core module means by wasi-nn. Default: `standard`.
    pub wasi_nn: NnDialect,
}

/// What happens to a request when a plugin of its chain fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failure {
    /// The request fails.
    #[default]
    Closed,
    /// The chain goes on as if the plugin were not in it, and the answer says so.
    Open,
}

/// A path, and the plugins that handle it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// `/embed`, `/users/{id}` or `/files/{*rest}`.
    pub path: String,
    /// The methods that are answered. Default: `POST`.
    pub methods: Vec<String>,
    /// The plugins, in order.
    pub plugins: Vec<String>,
    /// How long a whole answer may take, whatever it waits for. Default: 30s.
    pub timeout: Duration,
    /// Whether and how long answers are kept. Default: they are not.
    pub cache: Option<CachePolicy>,
}

/// How long answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// How long an answer is fresh.
    pub ttl: Duration,
}

impl Manifest {
    /// Reads a manifest. `origin` is the file's name, for messages.
    ///
    /// # Errors
    /// All mistakes at once, each with its line.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ManifestError> {
        sections::parse(text).map_err(|mistakes| ManifestError::new(origin, mistakes))
    }

    /// Reads `gw.toml` in the folder `app`, and gives its text too.
    ///
    /// # Errors
    /// Where the file cannot be read or has mistakes.
    pub fn open(app: &Path) -> Result<(Self, String), ManifestError> {
        let path = app.join(FILE_NAME);
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        Ok((Self::parse(&text, &path.display().to_string())?, text))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> ManifestError {
    let mistake = match error.kind() {
        io::ErrorKind::NotFound => Mistake {
            line: 0,
            message: "there is no such file".to_owned(),
            hint: Some("name the folder of an app: one that holds a gw.toml".to_owned()),
        },
        _ => Mistake { line: 0, message: error.to_string(), hint: None },
    };
    ManifestError::new(&path.display().to_string(), vec![mistake])
}

/// Whether `text` may name an app or a plugin: such names are parts of paths and labels.
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&text.len())
        && text.bytes().all(plain)
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// Whether `text` may name a model. A plugin that was built elsewhere asks for what it was told,
/// such as `org/model:tag`; the name is a label, never a path.
fn is_model_name(text: &str) -> bool {
    (1..=200).contains(&text.len())
        && text.starts_with(char::is_alphanumeric)
        && !text.contains(char::is_control)
}

/// Whether `text` is a relative path that stays below its folder on every system.
pub(crate) fn is_asset_name(text: &str) -> bool {
    let plain = |c: char| !c.is_control() && !matches!(c, '\\' | ':');
    text.len() <= 200
        && text.chars().all(plain)
        && text.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests;
