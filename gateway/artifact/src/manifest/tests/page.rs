//! `MANIFEST.md` against the reader: every key is on the page, with its default and an example.

use std::collections::BTreeSet;

use super::*;

const PAGE: &str = include_str!("../../../MANIFEST.md");

/// The headings of the page, and where their tables lie in a manifest.
const TABLES: [(&str, &[&str]); 8] = [
    ("`[app]`", &["app"]),
    ("`[[model]]`", &["model"]),
    ("`batch` of `[[model]]`", &["model", "batch"]),
    ("`[[asset]]`", &["asset"]),
    ("`[[plugin]]`", &["plugin"]),
    ("`limits` of `[[plugin]]`", &["plugin", "limits"]),
    ("`[[route]]`", &["route"]),
    ("`cache` of `[[route]]`", &["route", "cache"]),
];

/// A row of the page: a key, its default, and how it is written.
struct Row {
    key: &'static str,
    default: &'static str,
    example: &'static str,
}

fn rows(heading: &str) -> Vec<Row> {
    let title = format!("\n## {heading}\n");
    let (_, section) = PAGE.split_once(&title).unwrap_or_else(|| panic!("no section {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    let code = |cell: &'static str| cell.trim().strip_prefix('`').unwrap().strip_suffix('`');
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.split('|').collect();
        let [_, key, _, default, _, example, _] = cells[..] else { panic!("{line}") };
        let (key, example) = (code(key).unwrap(), code(example).unwrap());
        Row { key, default: default.trim(), example }
    };
    lines.map(row).collect()
}

/// The page's own manifest.
fn least() -> toml::Table {
    let (_, rest) = PAGE.split_once("```toml\n").unwrap();
    rest.split("```").next().unwrap().parse().unwrap()
}

/// The table of a manifest at this place; made where it is not there.
fn table<'m>(manifest: &'m mut toml::Table, place: &[&str]) -> &'m mut toml::Table {
    let mut table = manifest;
    for key in place {
        let value = table.entry(*key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let value = if value.is_array() { &mut value[0] } else { value };
        table = value.as_table_mut().unwrap();
    }
    table
}

fn parse(manifest: &toml::Table) -> Result<Manifest, String> {
    Manifest::parse(&manifest.to_string(), "gw.toml").map_err(|error| error.to_string())
}

/// The keys that the reader knows of a table, as its hint lists them.
fn known(place: &[&str]) -> BTreeSet<String> {
    let mut manifest = least();
    table(&mut manifest, place).insert("zzzz".to_owned(), toml::Value::Integer(0));
    let error = parse(&manifest).unwrap_err();
    let (_, listed) = error.split_once("there are: ").unwrap_or_else(|| panic!("{error}"));
    listed.lines().next().unwrap().split(", ").map(str::to_owned).collect()
}

#[test]
fn the_page_lists_every_table_and_every_key() {
    let headings: Vec<&str> = PAGE.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings, TABLES.map(|(heading, _)| heading));
    let at_root = TABLES.iter().map(|(_, place)| place[0].to_owned()).collect();
    assert_eq!(known(&[]), at_root);
    for (heading, place) in TABLES {
        let listed = rows(heading);
        let keys: BTreeSet<String> = listed.iter().map(|row| row.key.to_owned()).collect();
        assert_eq!(keys, known(place), "{heading}");
        assert_eq!(keys.len(), listed.len(), "{heading}: a key stands twice");
    }
}

#[test]
fn what_the_page_calls_required_is_and_its_defaults_are() {
    for (heading, place) in TABLES {
        for Row { key, default, .. } in rows(heading) {
            let mut manifest = least();
            let own = table(&mut manifest, place);
            if default == "required" {
                own.remove(key);
                let error = parse(&manifest).unwrap_err();
                assert!(error.contains(&format!("needs `{key}`")), "{heading} {key}: {error}");
            } else {
                assert!(!own.contains_key(key), "{heading} {key} is not needed");
                let value = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
                let Some(value) = value else { continue };
                let given: toml::Table = format!("{key} = {value}").parse().unwrap();
                own.extend(given);
                let without = parse(&least()).unwrap();
                assert_eq!(parse(&manifest).as_ref(), Ok(&without), "{heading} {key}");
            }
        }
    }
}

#[test]
fn every_example_of_the_page_is_read_and_says_something() {
    for (heading, place) in TABLES {
        for Row { key, example, .. } in rows(heading) {
            let given: toml::Table = example.parse().unwrap_or_else(|e| panic!("{example}: {e}"));
            assert_eq!(given.keys().collect::<Vec<_>>(), [key], "{heading}");
            let mut manifest = least();
            // What the examples name beside their own key.
            let more = "[[plugin]]\nname = \"guard\"\npath = \"guard\"\n";
            let more: toml::Table = more.parse().unwrap();
            let plugins = manifest["plugin"].as_array_mut().unwrap();
            plugins.extend(more["plugin"].as_array().unwrap().iter().cloned());
            if place == ["plugin"] && key == "name" {
                manifest["route"][0]["plugins"][0] = given[key].clone();
            }
            let before = {
                let mut manifest = manifest.clone();
                if place.ends_with(&["cache"]) {
                    table(&mut manifest, &["route", "cache"]).insert("ttl".into(), "1s".into());
                }
                parse(&manifest).ok()
            };
            table(&mut manifest, place).extend(given);
            let after = parse(&manifest).unwrap_or_else(|error| panic!("{example}: {error}"));
            assert_ne!(Some(after), before, "{heading}: {example} changes nothing");
        }
    }
}
