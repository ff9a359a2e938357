//! Pre-initialisation: `init` runs once, when the plugin is built.

use gw_host::PluginSpec;
use gw_host::preinit::{PreinitError, pre_initialise};

use crate::run;
use crate::support::{Node, ask, guest, text};

#[test]
fn a_prepared_plugin_starts_with_what_init_read() {
    let node = Node::start();
    let assets = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(assets.path().join("table.txt"), "forty-two").expect("written");
    let wasm = pre_initialise(&guest("prepared"), assets.path()).expect("prepared");
    // Whether from the build or from a file, the answer is one; without assets only the build is.
    let spec = PluginSpec { wasm: wasm.into(), assets: None, ..node.spec("prepared") };
    let prepared = node.host.load(spec).expect("it loads");
    let assets = Some(assets.path().to_owned());
    let plain = node.host.load(PluginSpec { assets, ..node.spec("prepared") }).expect("it loads");
    run(async {
        for _ in 0..3 {
            assert_eq!(text(&prepared, "").await, "forty-two");
        }
        assert_eq!(text(&plain, "").await, "forty-two");
    });
}

#[test]
fn a_plugin_that_was_not_prepared_runs_its_init_in_the_request() {
    let node = Node::start();
    let plugin = node.load("prepared").expect("it loads");
    let error = run(async { ask(&plugin, "").await.expect_err("there are no assets") });
    assert!(error.to_string().contains("trapped"), "{error}");
}

#[test]
fn an_init_that_fails_says_why() {
    let empty = tempfile::tempdir().expect("a temporary folder");
    let error = pre_initialise(&guest("prepared"), empty.path()).expect_err("no table");
    let PreinitError::Init { stderr, .. } = &error else { panic!("{error}") };
    assert!(stderr.contains("table.txt is an asset"), "{error}");
}

#[test]
fn a_component_without_init_is_left_as_it_is() {
    let empty = tempfile::tempdir().expect("a temporary folder");
    for name in ["trap", "table-bomb"] {
        let wasm = guest(name);
        assert_eq!(pre_initialise(&wasm, empty.path()).expect("unchanged"), wasm, "{name}");
    }
    let error = pre_initialise(b"not wasm", empty.path()).expect_err("not a component");
    assert!(matches!(error, PreinitError::Invalid(_)), "{error}");
}

#[test]
fn it_may_be_called_inside_a_runtime() {
    let empty = tempfile::tempdir().expect("a temporary folder");
    let prepared = run(async { pre_initialise(&guest("good"), empty.path()) }).expect("prepared");
    let node = Node::start();
    let spec = PluginSpec { wasm: prepared.into(), ..node.spec("good") };
    let good = node.host.load(spec).expect("it loads");
    assert_eq!(run(async { text(&good, "1 2").await }), "2 4");
}
