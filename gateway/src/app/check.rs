//! What a plugin imports, against what `gw.toml` grants it.
//!
//! An import without its grant still loads, and answers with an error that names the key. What is
//! built from source imports only what its source uses, so a grant that is missing here would be
//! missed by a request: Rust and the JavaScript SDK leave out what nothing refers to, and the
//! Python SDK names what its modules need. The one exception is how JavaScript sends requests: its
//! engine brings `fetch` along, used or not, so that import of it says nothing.

use std::fmt;

use gw_artifact::manifest::{Manifest, PluginEntry, place};
use gw_host::Inspection;
use serde::Serialize;

use crate::guest::Language;

/// A grant that a plugin needs and does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Lack {
    /// The plugin.
    pub(crate) plugin: String,
    /// What it imports, such as `wasi:nn`.
    pub(crate) import: &'static str,
    /// The manifest.
    pub(crate) file: String,
    /// Its line with the key, or with the `[[plugin]]` that lacks it.
    pub(crate) line: usize,
    /// What to do there.
    pub(crate) fix: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, import, file, line, fix } = self;
        write!(f, "{file}:{line}: plugin {plugin} imports {import}, which nothing grants it; {fix}")
    }
}

/// An import that needs a grant.
struct Need {
    /// What the import's name begins with.
    prefix: &'static str,
    /// What people call it.
    import: &'static str,
    /// The key that grants it.
    key: &'static str,
    /// What the key may hold.
    example: &'static str,
    granted: fn(&PluginEntry, &Manifest) -> bool,
}

const OUTGOING: &str = "wasi:http/outgoing-handler@";

const NEEDS: [Need; 5] = [
    Need {
        prefix: "wasi:nn/",
        import: "wasi:nn",
        key: "models",
        example: r#"["NAME"]"#,
        granted: |plugin, _| !plugin.models.is_empty() || plugin.load.is_some(),
    },
    Need {
        prefix: "wasi_ephemeral_nn",
        import: "wasi_ephemeral_nn",
        key: "models",
        example: r#"["NAME"]"#,
        granted: |plugin, _| !plugin.models.is_empty() || plugin.load.is_some(),
    },
    Need {
        prefix: "wasi:keyvalue/",
        import: "wasi:keyvalue",
        key: "keyvalue",
        example: r#"["BUCKET"]"#,
        granted: |plugin, _| !plugin.grants.keyvalue.is_empty(),
    },
    Need {
        prefix: "wasi:config/",
        import: "wasi:config",
        key: "config",
        example: r#"{ NAME = "value" }"#,
        granted: |plugin, _| !plugin.grants.config.is_empty() || !plugin.grants.secrets.is_empty(),
    },
    Need {
        prefix: OUTGOING,
        import: "wasi:http/outgoing-handler",
        key: "http",
        example: r#"["https://HOST"]"#,
        // A handler that is not the last of its chain reaches the next one this way.
        granted: |plugin, manifest| !plugin.grants.http.is_empty() || goes_on(plugin, manifest),
    },
];

/// Whether another plugin comes after this one on a route.
fn goes_on(plugin: &PluginEntry, manifest: &Manifest) -> bool {
    let before_last = |names: &[String]| match names {
        [before @ .., _] => before.contains(&plugin.name),
        [] => false,
    };
    manifest.routes.iter().any(|route| before_last(&route.plugins))
}

/// The key of `gw.toml` that grants an import, where it needs one.
pub(crate) fn key_of(import: &str) -> Option<&'static str> {
    NEEDS.iter().find(|need| import.starts_with(need.prefix)).map(|need| need.key)
}

/// What `plugin` imports and is not granted. It was built from source in `language`, if gw built
/// it. `text` is the manifest, and `file` its name.
pub(super) fn lacks(
    plugin: &PluginEntry,
    language: Option<Language>,
    manifest: &Manifest,
    inspection: &Inspection,
    (file, text): (&str, &str),
) -> Vec<Lack> {
    let says_nothing =
        |need: &Need| language == Some(Language::JavaScript) && need.prefix == OUTGOING;
    let imports = |need: &&Need| {
        !says_nothing(need) && inspection.imports.iter().any(|it| it.starts_with(need.prefix))
    };
    let lacks = NEEDS.iter().filter(imports).filter(|need| !(need.granted)(plugin, manifest));
    lacks
        .map(|need| {
            let place = place::of_plugin(text, &plugin.name, need.key);
            let line = place.map_or(1, |place| place.line);
            let verb = if place.is_some_and(|place| place.is_key) { "write" } else { "add" };
            Lack {
                plugin: plugin.name.clone(),
                import: need.import,
                file: file.to_owned(),
                line,
                fix: format!("{verb} {}", grant(need, manifest)),
            }
        })
        .collect()
}

/// The line that grants it: with the app's own models, where it has some.
fn grant(need: &Need, manifest: &Manifest) -> String {
    let names: Vec<&str> = manifest.models.iter().map(|model| model.name.as_str()).collect();
    match (need.key, names.as_slice()) {
        ("models", []) => {
            format!("a [[model]], and {} = {} with its name", need.key, need.example)
        }
        // TOML writes such lists as Rust does; names of models hold no control characters.
        ("models", names) => format!("models = {names:?}"),
        (key, _) => format!("{key} = {}", need.example),
    }
}

#[cfg(test)]
mod tests {
    use gw_host::Form;

    use super::*;

    const APP: &str = r#"
[app]
name = "a"
version = "1"

[[model]]
name = "minilm"
source = "m.onnx"

[[plugin]]
name = "first"
path = "p"
models = []

[[plugin]]
name = "last"
path = "p"

[[route]]
path = "/"
plugins = ["first", "last"]
"#;

    fn told(text: &str, plugin: usize, imports: &[&str]) -> Vec<String> {
        told_of(None, text, plugin, imports)
    }

    fn told_of(
        language: Option<Language>,
        text: &str,
        plugin: usize,
        imports: &[&str],
    ) -> Vec<String> {
        let manifest = Manifest::parse(text, "gw.toml").unwrap();
        let imports = imports.iter().map(|&import| import.to_owned()).collect();
        let inspection = Inspection { form: Form::Handler, imports };
        let plugin = &manifest.plugins[plugin];
        let lacks = lacks(plugin, language, &manifest, &inspection, ("gw.toml", text));
        lacks.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_missing_grant_is_told_with_its_line_and_what_to_write() {
        let nn = ["wasi:nn/graph@0.2.0-rc-2024-10-28", "wasi:nn/tensor@0.2.0-rc-2024-10-28"];
        assert_eq!(
            told(APP, 0, &nn),
            ["gw.toml:13: plugin first imports wasi:nn, which nothing grants it; write models = \
              [\"minilm\"]"]
        );
        assert_eq!(
            told(APP, 1, &["wasi:keyvalue/store@0.2.0-draft", "wasi:config/store@0.2.0-rc.1"]),
            [
                "gw.toml:15: plugin last imports wasi:keyvalue, which nothing grants it; add \
                 keyvalue = [\"BUCKET\"]",
                "gw.toml:15: plugin last imports wasi:config, which nothing grants it; add config \
                 = { NAME = \"value\" }",
            ]
        );
        let bare = APP.replace("[[model]]\nname = \"minilm\"\nsource = \"m.onnx\"\n", "");
        let bare = told(&bare, 0, &["wasi_ephemeral_nn"]);
        assert!(bare[0].contains("write a [[model]], and models = [\"NAME\"]"), "{bare:?}");
    }

    #[test]
    fn what_is_granted_or_needs_no_grant_is_not_told() {
        let nothing: [&str; 0] = [];
        let free = ["wasi:cli/environment@0.2.6", "wasi:http/types@0.2.12", "wasi:logging/logging"];
        assert_eq!(told(APP, 1, &free), nothing);
        // It has a way on, and needs no other host.
        assert_eq!(told(APP, 0, &["wasi:http/outgoing-handler@0.2.12"]), nothing);
        let sends = ["wasi:http/outgoing-handler@0.2.12"];
        assert_eq!(told(APP, 1, &sends).len(), 1);
        assert_eq!(told_of(Some(Language::Python), APP, 1, &sends).len(), 1);
        assert_eq!(told_of(Some(Language::JavaScript), APP, 1, &sends), nothing);
        let nn = ["wasi:nn/graph@0.2.0-rc-2024-10-28"];
        let granted = APP.replace("models = []", "models = [\"minilm\"]");
        assert_eq!(told(&granted, 0, &nn), nothing);
        assert_eq!(told(&APP.replace("models = []", "load = \"1MiB\""), 0, &nn), nothing);
        let secret = APP.replace("models = []", "secrets = [\"KEY\"]");
        assert_eq!(told(&secret, 0, &["wasi:config/store@0.2.0-rc.1"]), nothing);
    }
}
