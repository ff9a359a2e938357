//! Values that only the node has, and the lines of the log that must not show them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::HostError;

/// A secret larger than this is a file that was named by mistake; keys and certificates are
/// smaller.
const BYTES_MAX: usize = 64 << 10;
/// What stands where a secret was.
const MASK: &str = "***";

/// A value that prints as `***`, whoever prints it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps a value.
    pub fn new(value: &str) -> Self {
        Self(value.into())
    }

    /// The value itself, for whoever it was granted to.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// Where the node finds the value of a secret: `{ env = "VAR" }` or `{ file = "path" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// A variable of the node's environment.
    Env(String),
    /// A file that the node can read. A line end after the value is not part of it.
    File(PathBuf),
}

impl SecretSource {
    /// The value, or why there is none. The reason never quotes what was found.
    fn read(&self) -> Result<Secret, String> {
        let text = match self {
            Self::Env(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => format!("the variable {name} is not set"),
                std::env::VarError::NotUnicode(_) => format!("the variable {name} is not UTF-8"),
            })?,
            Self::File(path) => {
                let shown = path.display();
                let mut bytes = Vec::new();
                File::open(path)
                    .and_then(|file| file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
                    .map_err(|error| format!("{shown}: {error}"))?;
                String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8"))?
            }
        };
        let value = match self {
            Self::Env(_) => text.as_str(),
            Self::File(_) => text
                .strip_suffix('\n')
                .map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text)),
        };
        match value.len() {
            0 => Err("its value is empty".to_owned()),
            1..=BYTES_MAX => Ok(Secret::new(value)),
            _ => Err(format!("its value has more than {BYTES_MAX} bytes")),
        }
    }
}

/// The values of the secrets `names` of a plugin.
///
/// # Errors
/// [`HostError::Secret`], with the first that the node does not have.
pub(crate) fn read<'n>(
    plugin: &str,
    names: impl Iterator<Item = &'n String>,
    sources: &BTreeMap<String, SecretSource>,
) -> Result<BTreeMap<String, Secret>, HostError> {
    let refused = |secret: &str, reason: String| HostError::Secret {
        plugin: plugin.to_owned(),
        secret: secret.to_owned(),
        reason,
    };
    let mut values = BTreeMap::new();
    for name in names {
        let Some(source) = sources.get(name) else {
            let reason = format!(
                "the node has none of this name; add {name} = {{ env = \"{name}\" }} or {{ file = \
                 \"…\" }} to [plugins.secrets] of its configuration"
            );
            return Err(refused(name, reason));
        };
        let value = source.read().map_err(|reason| refused(name, reason))?;
        values.insert(name.clone(), value);
    }
    Ok(values)
}

/// What must not be seen in a log line: secrets, each line of one by itself.
///
/// It guards against a plugin that prints what it should not, such as a whole header. A plugin
/// that wants to show its own secret can always spell it otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masks(Arc<[Secret]>);

impl Masks {
    pub(crate) fn new<'s>(secrets: impl Iterator<Item = &'s Secret>) -> Self {
        let lines = secrets.flat_map(|secret| secret.reveal().lines());
        let mut lines: Vec<_> = lines.filter(|line| !line.is_empty()).map(Secret::new).collect();
        // The longest first: one secret may be a part of another.
        lines.sort_by_key(|line| std::cmp::Reverse(line.reveal().len()));
        Self(lines.into())
    }

    /// The line without secrets.
    pub(crate) fn mask(&self, line: &str) -> String {
        let mut masked = line.to_owned();
        for secret in self.0.iter() {
            if masked.contains(secret.reveal()) {
                masked = masked.replace(secret.reveal(), MASK);
            }
        }
        masked
    }

    /// How much of the beginning of `line` may be shown where the rest of it was cut off: the cut
    /// may lie in a secret, whose first half then ends the line.
    pub(crate) fn shown(&self, line: &str) -> usize {
        let starts = |from: usize| {
            let tail = &line.as_bytes()[from..];
            self.0.iter().any(|secret| secret.reveal().as_bytes().starts_with(tail))
        };
        let longest = self.0.first().map_or(0, |secret| secret.reveal().len());
        let from = line.len().saturating_sub(longest);
        (from..line.len())
            .find(|&from| line.is_char_boundary(from) && starts(from))
            .unwrap_or(line.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(secrets: &[&str]) -> Masks {
        let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(secret)).collect();
        Masks::new(secrets.iter())
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2");
        let config = SecretSource::Env("X".into());
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(format!("{config:?}"), "Env(\"X\")");
    }

    #[test]
    fn lines_lose_every_secret_the_longest_first() {
        let masks = masks(&["abc", "abcdef", "-----BEGIN\nline two\n"]);
        let cases = [
            ("nothing", "nothing"),
            ("key=abcdef.", "key=***."),
            ("abcabc abcd", "****** ***d"),
            ("-----BEGIN or line two", "*** or ***"),
        ];
        for (line, expected) in cases {
            assert_eq!(masks.mask(line), expected);
        }
        assert_eq!(Masks::default().mask("abc"), "abc");
    }

    #[test]
    fn a_line_that_is_cut_within_a_secret_ends_before_it() {
        let masks = masks(&["hunter2"]);
        for (line, shown) in [("key=hunt", "key="), ("key=h", "key="), ("key=x", "key=x"), ("", "")]
        {
            assert_eq!(&line[..masks.shown(line)], shown);
        }
    }

    #[test]
    fn a_file_gives_its_value_without_the_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            SecretSource::File(path.clone()).read().map(|secret| secret.reveal().to_owned())
        };
        assert_eq!(read(b"hunter2\r\n").as_deref(), Ok("hunter2"));
        assert_eq!(read(b"a\nb\n\n").as_deref(), Ok("a\nb\n"));
        assert_eq!(read(b"\n"), Err("its value is empty".to_owned()));
        assert!(read(b"\xff\xfe").unwrap_err().ends_with("is not UTF-8"));
        assert!(read(&vec![b'x'; BYTES_MAX + 1]).unwrap_err().contains("more than"));
        std::fs::remove_file(&path).unwrap();
        assert!(SecretSource::File(path).read().unwrap_err().contains("key"));
    }

    #[test]
    fn a_missing_secret_is_named_with_the_fix() {
        let names = ["OPENAI_KEY".to_owned()];
        let error = read("chat", names.iter(), &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("plugin chat") && error.contains("OPENAI_KEY = { env ="), "{error}");
        let unset = SecretSource::Env("GW_TEST_SURELY_UNSET".into());
        let sources = BTreeMap::from([("OPENAI_KEY".to_owned(), unset)]);
        let error = read("chat", names.iter(), &sources).unwrap_err().to_string();
        assert!(error.contains("the variable GW_TEST_SURELY_UNSET is not set"), "{error}");
    }
}
