//! What a plugin is granted: the keys of `[[plugin]]` that let it reach something.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::{Placed, Section};
use super::{HttpGrant, is_name};

/// What a plugin may reach beside its models and its assets: nothing that is not named here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// `config`: values that it reads through `wasi:config/store`.
    pub config: BTreeMap<String, String>,
    /// `secrets`: names of values that only the node has; it reads them the same way.
    pub secrets: BTreeSet<String>,
    /// `keyvalue`: the buckets that it opens through `wasi:keyvalue`. A bucket belongs to the app.
    pub keyvalue: BTreeSet<String>,
    /// `http`: where it may send requests.
    pub http: Vec<HttpGrant>,
    /// `private_network`: whether those may lie at private, loopback or link-local addresses.
    pub private_network: bool,
}

/// The keys that [`read`] reads.
pub(super) const KEYS: [&str; 5] = ["config", "secrets", "keyvalue", "http", "private_network"];

/// Reads the grants of one `[[plugin]]`.
pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Grants {
    let config = section.pairs("config");
    for (key, (_, at)) in &config {
        if key.is_empty() || key.chars().any(char::is_control) {
            section.reader.mistake(*at, "a key of `config` is text that can be printed");
        }
    }
    let secrets = names(section, "secrets");
    for (secret, at) in &secrets {
        if config.contains_key(secret) {
            let message =
                format!("`{secret}` is both in `config` and in `secrets`: keep it in one");
            section.reader.mistake(*at, message);
        }
    }
    let keyvalue = names(section, "keyvalue");
    let http = http(section);
    Grants {
        config: config.into_iter().map(|(key, (value, _))| (key, value)).collect(),
        secrets: secrets.into_iter().map(|(name, _)| name).collect(),
        keyvalue: keyvalue.into_iter().map(|(name, _)| name).collect(),
        http,
        private_network: section.flag("private_network").unwrap_or(false),
    }
}

/// A list of plain names.
fn names(section: &mut Section<'_, '_, '_>, key: &str) -> Vec<Placed> {
    let names = section.texts(key);
    for (name, at) in &names {
        if !is_name(name) {
            let message = format!(
                "`{name}` in `{key}` is no name: use letters, digits, `-`, `_` and `.`, at most 64"
            );
            section.reader.mistake(*at, message);
        }
    }
    names
}

fn http(section: &mut Section<'_, '_, '_>) -> Vec<HttpGrant> {
    let mut grants = Vec::new();
    for (text, at) in section.texts("http") {
        match text.parse() {
            Ok(grant) => grants.push(grant),
            Err(reason) => {
                let message = format!("`{text}` in `http` grants nothing: {reason}");
                let hint = Some("write such as \"https://api.example.com\"".to_owned());
                section.reader.report(at, message, hint);
            }
        }
    }
    grants
}
