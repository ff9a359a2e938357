//! Where a key of a manifest stands, for messages about a manifest that is right by itself.

use toml::de::DeTable;

/// A place in a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// Whether the key stands there; else it is the line of the table that lacks it.
    pub is_key: bool,
}

/// Where `key` of the `[[plugin]]` called `plugin` stands in the manifest `text`; `None` where
/// there is no such plugin.
pub fn of_plugin(text: &str, plugin: &str, key: &str) -> Option<Place> {
    let (document, _) = DeTable::parse_recoverable(text);
    let plugins = document.get_ref().get("plugin")?.get_ref().as_array()?;
    let entry = plugins.iter().find(|entry| {
        let name = entry.get_ref().as_table().and_then(|table| table.get("name"));
        name.and_then(|name| name.get_ref().as_str()) == Some(plugin)
    })?;
    let table = entry.get_ref().as_table()?;
    let given = table.get_key_value(key).map(|(key, _)| key.span().start);
    let before = text.get(..given.unwrap_or(entry.span().start)).unwrap_or(text);
    Some(Place { line: 1 + before.matches('\n').count(), is_key: given.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_its_own_plugin() {
        let text = "[app]\nname = \"a\"\n\n[[plugin]]\nname = \"one\"\nmodels = []\n\n# two\n\
                    [[plugin]]\nname = \"two\"\nlimits = { memory = \"1MiB\" }\n";
        let at = |plugin, key| of_plugin(text, plugin, key).map(|it| (it.line, it.is_key));
        assert_eq!(at("one", "models"), Some((6, true)));
        assert_eq!(at("two", "models"), Some((9, false)));
        assert_eq!(at("two", "limits"), Some((11, true)));
        assert_eq!(at("three", "models"), None);
        assert_eq!(of_plugin("[[plugin", "one", "models"), None);
    }
}
