//! Which operators there are, by family.

use super::{FAMILIES, full_name};

/// The operators of every family, in alphabetical order; those of other domains than `ai.onnx`
/// have the domain before the name.
pub fn families() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    FAMILIES.iter().map(|(family, table)| {
        let mut names: Vec<_> = table.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        (*family, names)
    })
}

/// The family of an operator, where there is one.
pub fn family(domain: &str, op: &str) -> Option<&'static str> {
    let name = full_name(domain, op);
    let has = |(_, table): &&(&str, super::Table)| table.iter().any(|(op, _)| *op == name);
    FAMILIES.iter().find(has).map(|(family, _)| *family)
}
