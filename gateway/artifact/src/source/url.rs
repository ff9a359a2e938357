//! URLs as messages and logs may show them.

use std::fmt;

/// A URL without its secrets: `https://user:word@host/path?token=1` is shown as
/// `https://***@host/path?***`. Any other text is shown as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownUrl(String);

/// What stands for a secret.
const HIDDEN: &str = "***";

impl From<&str> for ShownUrl {
    fn from(text: &str) -> Self {
        let Some((scheme, rest)) = text.split_once("://") else { return Self(text.to_owned()) };
        let (rest, query) = match rest.split_once('?') {
            // Names of parameters are hidden too: some servers take a bare token.
            Some((rest, _)) => (rest, format!("?{HIDDEN}")),
            None => (rest, String::new()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '#']).unwrap_or(rest.len()));
        let authority = match authority.rsplit_once('@') {
            Some((_, host)) => format!("{HIDDEN}@{host}"),
            None => authority.to_owned(),
        };
        Self(format!("{scheme}://{authority}{path}{query}"))
    }
}

impl fmt::Display for ShownUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ShownUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_rest_is_kept() {
        for (text, shown) in [
            ("https://host:1/a/b#c", "https://host:1/a/b#c"),
            ("https://me:secret@host:1/a", "https://***@host:1/a"),
            ("https://token@host", "https://***@host"),
            // Some write a password with an `@` as it is.
            ("https://me:se@cret@host/a", "https://***@host/a"),
            ("https://host/a?token=secret#f", "https://host/a?***"),
            ("https://host?secret", "https://host?***"),
            ("https://host/a@b", "https://host/a@b"),
            ("hf:org/repo@main#f", "hf:org/repo@main#f"),
            ("models/m.onnx", "models/m.onnx"),
        ] {
            assert_eq!(ShownUrl::from(text).to_string(), shown);
        }
    }
}
