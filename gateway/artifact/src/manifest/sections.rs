//! The tables of a manifest, and what must hold between them.

use std::collections::HashSet;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::{Placed, Reader, Section};
use super::{
    App, AssetEntry, CachePolicy, DevicePreference, Failure, Manifest, Mistake, ModelEntry,
    PluginEntry, RouteEntry, grants, is_asset_name, is_model_name, is_name, limits, serving,
};
use crate::{ByteSize, Source, duration};

const TABLES: [&str; 5] = ["app", "model", "asset", "plugin", "route"];
/// As long as many clients wait by themselves, and as a node drains.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// References from one table to another, checked once all tables are read.
#[derive(Default)]
struct References {
    models: Vec<Placed>,
    plugins: Vec<Placed>,
}

pub(super) fn parse(text: &str) -> Result<Manifest, Vec<Mistake>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(text);
    for error in errors {
        reader.mistake(error.span().map_or(0, |span| span.start), error.message());
    }
    let span = document.span();
    let document = Spanned::new(span, DeValue::Table(document.into_inner()));
    let mut references = References::default();
    let manifest = read(&mut reader, &document, &mut references);
    check(&mut reader, &manifest, &references);
    if reader.mistakes.is_empty() { Ok(manifest) } else { Err(reader.mistakes) }
}

fn read<'d>(
    reader: &mut Reader<'_>,
    document: &'d Spanned<DeValue<'d>>,
    references: &mut References,
) -> Manifest {
    let root = Section::open(reader, document, "the manifest", &TABLES);
    let root = root.expect("a document is a table");
    let (app_table, tables) =
        (root.value("app"), ["model", "asset", "plugin", "route"].map(|key| root.value(key)));
    let app = match app_table {
        Some(table) => app(reader, table),
        None => {
            reader.mistake(0, "the manifest needs [app] with `name` and `version`");
            App::default()
        }
    };
    let [models, assets, plugins, routes] = tables;
    Manifest {
        app,
        models: each(reader, models, "[[model]]", model),
        assets: each(reader, assets, "[[asset]]", asset),
        plugins: each(reader, plugins, "[[plugin]]", |reader, table| {
            plugin(reader, table, references)
        }),
        routes: each(reader, routes, "[[route]]", |reader, table| route(reader, table, references)),
    }
}

/// Every table of a list of tables that could be read, each name once.
fn each<'d, T>(
    reader: &mut Reader<'_>,
    value: Option<&'d Spanned<DeValue<'d>>>,
    name: &'static str,
    mut read: impl FnMut(&mut Reader<'_>, &'d Spanned<DeValue<'d>>) -> Option<(Placed, T)>,
) -> Vec<T> {
    let Some(value) = value else { return Vec::new() };
    let Some(list) = value.get_ref().as_array() else {
        reader.mistake(value.span().start, format!("write {name}, with two brackets"));
        return Vec::new();
    };
    let mut names = HashSet::new();
    let mut entries = Vec::new();
    for table in list {
        if let Some(((key, at), entry)) = read(reader, table) {
            if !names.insert(key.clone()) {
                reader.mistake(at, format!("two {name} are called `{key}`"));
            }
            entries.push(entry);
        }
    }
    entries
}

fn app<'d>(reader: &mut Reader<'_>, table: &'d Spanned<DeValue<'d>>) -> App {
    let Some(mut section) = Section::open(reader, table, "[app]", &["name", "version"]) else {
        return App::default();
    };
    let name = named(&mut section).map(|(name, _)| name);
    let version = section.required("version");
    if let Some((version, at)) = &version
        && (version.is_empty() || version.chars().any(|c| c.is_whitespace() || c.is_control()))
    {
        section.reader.mistake(*at, "`version` is a text without spaces, such as \"0.1.0\"");
    }
    App { name: name.unwrap_or_default(), version: version.unwrap_or_default().0 }
}

/// The required key `name`, which must be a plain name.
fn named(section: &mut Section<'_, '_, '_>) -> Option<Placed> {
    named_by(section, is_name, "use letters, digits, `-`, `_` and `.`, at most 64")
}

/// The required key `name`, which must be as `rule` says.
fn named_by(
    section: &mut Section<'_, '_, '_>,
    holds: fn(&str) -> bool,
    rule: &str,
) -> Option<Placed> {
    let (name, at) = section.required("name")?;
    if !holds(&name) {
        section.reader.mistake(at, format!("`{name}` is no name: {rule}"));
    }
    Some((name, at))
}

fn source(section: &mut Section<'_, '_, '_>) -> Option<Source> {
    section.required("source")?;
    section.parsed("source")
}

fn model<'d>(
    reader: &mut Reader<'_>,
    table: &'d Spanned<DeValue<'d>>,
) -> Option<(Placed, ModelEntry)> {
    let own = ["name", "source", "sha256", "device"];
    let known = [&own[..], &serving::KEYS[..]].concat();
    let mut section = Section::open(reader, table, "[[model]]", &known)?;
    let rule = "begin with a letter or a digit, no control characters, at most 200 bytes";
    let name = named_by(&mut section, is_model_name, rule);
    let source = source(&mut section);
    let sha256 = section.parsed("sha256");
    let device = section.parsed_by("device", |text| match text {
        "auto" => Ok(DevicePreference::Auto),
        "gpu" => Ok(DevicePreference::Gpu),
        "cpu" => Ok(DevicePreference::Cpu),
        _ => Err(format!("`{text}` is no device: use auto, gpu or cpu")),
    });
    let (device, serving) = (device.unwrap_or_default(), serving::read(&mut section));
    let name = name?;
    // A model without a usable source still exists: grants that name it are not mistakes.
    let source = source.unwrap_or(Source::File { path: String::new().into() });
    let entry = ModelEntry { name: name.0.clone(), source, sha256, device, serving };
    Some((name, entry))
}

fn asset<'d>(
    reader: &mut Reader<'_>,
    table: &'d Spanned<DeValue<'d>>,
) -> Option<(Placed, AssetEntry)> {
    let mut section = Section::open(reader, table, "[[asset]]", &["name", "source", "sha256"])?;
    let name = section.required("name");
    if let Some((name, at)) = &name
        && !is_asset_name(name)
    {
        let message = format!("`{name}` is no path below /assets: use plain parts such as a/b.txt");
        section.reader.mistake(*at, message);
    }
    let source = source(&mut section);
    let sha256 = section.parsed("sha256");
    let name = name?;
    let entry = AssetEntry { name: name.0.clone(), source: source?, sha256 };
    Some((name, entry))
}

fn plugin<'d>(
    reader: &mut Reader<'_>,
    table: &'d Spanned<DeValue<'d>>,
    references: &mut References,
) -> Option<(Placed, PluginEntry)> {
    let own = ["name", "path", "models", "load", "failure", "limits", "wasi_nn"];
    let known = [&own[..], &grants::KEYS[..]].concat();
    let mut section = Section::open(reader, table, "[[plugin]]", &known)?;
    let name = named(&mut section);
    let path = section.required("path").unwrap_or_default().0;
    let models = section.texts("models");
    let load: Option<ByteSize> = section.parsed("load");
    if load.is_some_and(|load| load.0 == 0) {
        let at = section.place("load");
        section.reader.mistake(at, "`load` is 0: leave it out where no model is loaded from bytes");
    }
    let grants = grants::read(&mut section);
    let failure = section.parsed_by("failure", |text| match text {
        "closed" => Ok(Failure::Closed),
        "open" => Ok(Failure::Open),
        _ => Err(format!("`{text}` is no policy: use closed or open")),
    });
    let limits = section.value("limits").map(|table| limits::read(section.reader, table));
    let wasi_nn = section.parsed("wasi_nn").unwrap_or_default();
    references.models.extend(models.iter().cloned());
    let name = name?;
    let entry = PluginEntry {
        name: name.0.clone(),
        path: path.into(),
        models: models.into_iter().map(|(model, _)| model).collect(),
        load,
        grants,
        failure: failure.unwrap_or_default(),
        limits: limits.unwrap_or_default(),
        wasi_nn,
    };
    Some((name, entry))
}

fn route<'d>(
    reader: &mut Reader<'_>,
    table: &'d Spanned<DeValue<'d>>,
    references: &mut References,
) -> Option<(Placed, RouteEntry)> {
    let known = ["path", "methods", "plugins", "timeout", "cache"];
    let mut section = Section::open(reader, table, "[[route]]", &known)?;
    let path = section.required("path");
    if let Some((path, at)) = &path
        && (!path.starts_with('/') || path.contains(['?', '#', ' ']))
    {
        section.reader.mistake(*at, format!("`{path}` is no path: it starts with `/`"));
    }
    let methods = methods(&mut section);
    let plugins = section.texts("plugins");
    if plugins.is_empty() {
        let at = section.place("plugins");
        section.reader.mistake(at, "[[route]] needs `plugins`: the names of those that handle it");
    }
    let timeout = section.parsed_by("timeout", duration::parse).unwrap_or(DEFAULT_TIMEOUT);
    if timeout.is_zero() {
        let at = section.place("timeout");
        section.reader.mistake(at, "`timeout` is 0: no request could be answered");
    }
    let cache = section.value("cache").and_then(|table| cache(section.reader, table));
    references.plugins.extend(plugins.iter().cloned());
    let (path, at) = path?;
    let key = format!("{} {path}", methods.join(" "));
    let plugins = plugins.into_iter().map(|(plugin, _)| plugin).collect();
    Some(((key, at), RouteEntry { path, methods, plugins, timeout, cache }))
}

fn methods(section: &mut Section<'_, '_, '_>) -> Vec<String> {
    if section.value("methods").is_none() {
        return vec!["POST".to_owned()];
    }
    let methods = section.texts("methods");
    if methods.is_empty() {
        let at = section.place("methods");
        section.reader.mistake(at, "`methods` is empty: leave it out for POST");
    }
    for (method, at) in &methods {
        if !METHODS.contains(&method.as_str()) {
            let message = format!("`{method}` is no HTTP method");
            section.reader.unknown(*at, message, &method.to_uppercase(), &METHODS);
        }
    }
    methods.into_iter().map(|(method, _)| method).collect()
}

fn cache<'d>(reader: &mut Reader<'_>, table: &'d Spanned<DeValue<'d>>) -> Option<CachePolicy> {
    let mut section = Section::open(reader, table, "`cache`", &["ttl"])?;
    section.required("ttl")?;
    let ttl = section.parsed_by("ttl", duration::parse)?;
    Some(CachePolicy { ttl })
}

/// Grants and routes must name what there is.
fn check(reader: &mut Reader<'_>, manifest: &Manifest, references: &References) {
    let models: Vec<&str> = manifest.models.iter().map(|model| model.name.as_str()).collect();
    for (model, at) in &references.models {
        if !models.contains(&model.as_str()) {
            reader.unknown(*at, format!("there is no model `{model}`"), model, &models);
        }
    }
    let plugins: Vec<&str> = manifest.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
    for (plugin, at) in &references.plugins {
        if !plugins.contains(&plugin.as_str()) {
            reader.unknown(*at, format!("there is no plugin `{plugin}`"), plugin, &plugins);
        }
    }
}
