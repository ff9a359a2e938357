//! Reads tables key by key and collects what is wrong, instead of stopping at the first mistake.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Mistake;

/// A text with the place where it stands.
pub(super) type Placed = (String, usize);

/// The mistakes found so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    pub(super) mistakes: Vec<Mistake>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, mistakes: Vec::new() }
    }

    pub(super) fn mistake(&mut self, at: usize, message: impl Into<String>) {
        self.report(at, message.into(), None);
    }

    /// A mistake with the closest of `known` as its hint.
    pub(super) fn unknown(&mut self, at: usize, message: String, given: &str, known: &[&str]) {
        let hint = match closest(given, known) {
            Some(close) => Some(format!("did you mean `{close}`?")),
            None if known.is_empty() => None,
            None => Some(format!("there are: {}", known.join(", "))),
        };
        self.report(at, message, hint);
    }

    pub(super) fn report(&mut self, at: usize, message: String, hint: Option<String>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = 1 + before.matches('\n').count();
        self.mistakes.push(Mistake { line, message, hint });
    }
}

/// One table of the manifest, read key by key.
pub(super) struct Section<'r, 't, 'd> {
    pub(super) reader: &'r mut Reader<'t>,
    table: &'d DeTable<'d>,
    /// How messages call the table, such as `[[model]]`.
    pub(super) name: &'static str,
    /// Where the table stands.
    pub(super) at: usize,
}

impl<'r, 't, 'd> Section<'r, 't, 'd> {
    /// Opens `value` as a table with the keys `known`; every other key is a mistake.
    pub(super) fn open(
        reader: &'r mut Reader<'t>,
        value: &'d Spanned<DeValue<'d>>,
        name: &'static str,
        known: &[&str],
    ) -> Option<Self> {
        let at = value.span().start;
        let Some(table) = value.get_ref().as_table() else {
            let found = value.get_ref().type_str();
            reader.mistake(at, format!("{name} is a table, not {found}"));
            return None;
        };
        for key in table.keys() {
            let given = key.get_ref();
            if !known.contains(&given.as_ref()) {
                let message = format!("unknown key `{given}` in {name}");
                reader.unknown(key.span().start, message, given, known);
            }
        }
        Some(Self { reader, table, name, at })
    }

    /// The place of a key's value, or of the table where the key is missing.
    pub(super) fn place(&self, key: &str) -> usize {
        self.value(key).map_or(self.at, |value| value.span().start)
    }

    pub(super) fn value(&self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.table.get(key)
    }

    /// The text of an optional key.
    pub(super) fn text(&mut self, key: &str) -> Option<Placed> {
        let value = self.value(key)?;
        let at = value.span().start;
        match value.get_ref().as_str() {
            Some(text) => Some((text.to_owned(), at)),
            None => {
                let found = value.get_ref().type_str();
                self.reader.mistake(at, format!("`{key}` is text in quotes, not {found}"));
                None
            }
        }
    }

    /// The text of a key that must be there.
    pub(super) fn required(&mut self, key: &str) -> Option<Placed> {
        if self.value(key).is_none() {
            self.reader.mistake(self.at, format!("{} needs `{key}`", self.name));
        }
        self.text(key)
    }

    /// An optional key's text, parsed.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, key: &str) -> Option<T> {
        self.parsed_by(key, T::from_str)
    }

    /// As [`Self::parsed`], by a function.
    pub(super) fn parsed_by<T, E: Display>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let (text, at) = self.text(key)?;
        parse(&text).map_err(|error| self.reader.mistake(at, format!("`{key}`: {error}"))).ok()
    }

    /// An optional key that is a whole number.
    pub(super) fn count(&mut self, key: &str) -> Option<u64> {
        let value = self.value(key)?;
        let number = value.get_ref().as_integer();
        let count =
            number.and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        if count.is_none() {
            let message = format!("`{key}` is a whole number from 0 on, without quotes");
            self.reader.mistake(value.span().start, message);
        }
        count
    }

    /// A list of texts; empty where the key is missing.
    pub(super) fn texts(&mut self, key: &str) -> Vec<Placed> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            let found = value.get_ref().type_str();
            let message = format!("`{key}` is a list such as [\"a\", \"b\"], not {found}");
            self.reader.mistake(value.span().start, message);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in list {
            match item.get_ref().as_str() {
                Some(text) => texts.push((text.to_owned(), item.span().start)),
                None => {
                    let found = item.get_ref().type_str();
                    let message = format!("`{key}` holds texts in quotes, not {found}");
                    self.reader.mistake(item.span().start, message);
                }
            }
        }
        texts
    }

    /// A table of texts; empty where the key is missing.
    pub(super) fn pairs(&mut self, key: &str) -> BTreeMap<String, Placed> {
        let mut pairs = BTreeMap::new();
        for (name, at, value) in self.entries(key, "{ name = \"text\" }") {
            match value.as_str() {
                Some(text) => {
                    pairs.insert(name, (text.to_owned(), at));
                }
                None => {
                    let found = value.type_str();
                    let message = format!("`{name}` in `{key}` is text in quotes, not {found}");
                    self.reader.mistake(at, message);
                }
            }
        }
        pairs
    }

    /// A table of whole numbers, as [`Self::pairs`].
    pub(super) fn numbers(&mut self, key: &str) -> BTreeMap<String, i64> {
        let mut numbers = BTreeMap::new();
        for (name, at, value) in self.entries(key, "{ name = 0 }") {
            let number = value.as_integer();
            match number.and_then(|it| i64::from_str_radix(it.as_str(), it.radix()).ok()) {
                Some(number) => {
                    numbers.insert(name, number);
                }
                None => {
                    let found = value.type_str();
                    let message = format!("`{name}` in `{key}` is a whole number, not {found}");
                    self.reader.mistake(at, message);
                }
            }
        }
        numbers
    }

    /// The keys of a table with their places and values; none where the key is missing or no table.
    fn entries(&mut self, key: &str, example: &str) -> Vec<(String, usize, &'d DeValue<'d>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            let found = value.get_ref().type_str();
            let message = format!("`{key}` is a table such as {example}, not {found}");
            self.reader.mistake(value.span().start, message);
            return Vec::new();
        };
        let mut entries = Vec::with_capacity(table.len());
        for (name, value) in table {
            let at = name.span().start;
            entries.push((name.get_ref().clone().into_owned(), at, value.get_ref()));
        }
        entries
    }

    /// An optional key that is true or false.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            let found = value.get_ref().type_str();
            let message = format!("`{key}` is true or false, not {found}");
            self.reader.mistake(value.span().start, message);
        }
        flag
    }
}

/// The one of `known` that was probably meant.
fn closest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    let scored = known.iter().map(|known| (strsim::jaro_winkler(given, known), *known));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    // Below this, a suggestion is more often confusing than right.
    (best.0 >= 0.75).then_some(best.1)
}
