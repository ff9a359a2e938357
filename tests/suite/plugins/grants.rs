//! What `gw.toml` grants, in a whole gateway: secrets of the node, buckets that outlive it.

use std::fs;
use std::path::{Path, PathBuf};

use gw_tests::gateway::Gateway;
use gw_tests::guests;

use crate::push::{Site, text};

/// An app with one plugin that does as it is told, granted by `lines`.
fn app(site: &Site, version: &str, lines: &str) -> PathBuf {
    let folder = site.folder.path().join(format!("app-{version}"));
    fs::create_dir(&folder).expect("a folder");
    let component = guests::component("grants");
    let manifest = format!(
        "[app]\nname = \"granted\"\nversion = \"{version}\"\n\n[[plugin]]\nname = \"grants\"\n\
         path = {component:?}\n{lines}\n[[route]]\npath = \"/tell\"\nplugins = [\"grants\"]\n\
         cache = {{ ttl = \"10m\" }}\n"
    );
    fs::write(folder.join("gw.toml"), manifest).expect("written");
    folder
}

/// The configuration of a node with the secret `KEY`.
fn config(site: &Site) -> PathBuf {
    let (key, file) = (site.folder.path().join("secret"), site.folder.path().join("gateway.toml"));
    fs::write(&key, "hunter2\n").expect("written");
    fs::write(&file, format!("[plugins.secrets]\nKEY = {{ file = {key:?} }}\n")).expect("written");
    file
}

fn serve(site: &Site, config: &Path) -> Gateway {
    Gateway::serve(&site.state(), &site.public, &["--device", "cpu", "--config", text(config)])
}

#[test]
fn grants_reach_the_plugin_and_secrets_never_reach_the_log() {
    let site = Site::new();
    let config = config(&site);
    let mut node = serve(&site, &config);
    let grants = "config = { mode = \"fast\" }\nsecrets = [\"KEY\"]\nkeyvalue = [\"default\"]\n";
    let (code, _, err) = site.push(&app(&site, "0.1.0", grants), &node);
    assert_eq!(code, 0, "{err}");
    let told = node.post("/tell", "config mode\nconfig KEY\ndefault add n 7\nprint key=hunter2");
    assert_eq!(told.body, "Some(\"fast\")\nSome(\"hunter2\")\n7\nprinted");
    node.wait_for("key=***");

    node.kill();
    let mut node = serve(&site, &config);
    assert_eq!(node.post("/tell", "default add n 1").body, "8", "a bucket survives kill -9");
    let cached = node.post("/tell", "config mode");
    assert_eq!(cached.body, "Some(\"fast\")");
    let slow = grants.replace("fast", "slow");
    let (code, _, err) = site.push(&app(&site, "0.2.0", &slow), &node);
    assert_eq!(code, 0, "{err}");
    assert_eq!(node.post("/tell", "config mode").body, "Some(\"slow\")", "no old answer");
    assert_eq!(
        node.post("/tell", "default get n").body,
        "Some(\"8\")",
        "the app's, not the revision's"
    );
    assert_eq!(node.terminate(), 0);
    assert!(!node.log().contains("hunter2"), "{}", node.log());
}

#[test]
fn a_node_without_the_secret_refuses_the_app_and_says_how_to_add_it() {
    let site = Site::new();
    let node = site.serve();
    let (code, _, err) = site.push(&app(&site, "0.1.0", "secrets = [\"KEY\"]\n"), &node);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("KEY = { env = \"KEY\" }") && err.contains("[plugins.secrets]"), "{err}");
}
