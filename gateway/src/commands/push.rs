//! `gw push`: an app, built, bundled, signed and uploaded.

use std::path::PathBuf;

use anyhow::Context as _;
use gw_artifact::bundle;
use serde_json::Value;

use crate::admin::{Client, Node};
use crate::app::App;
use crate::commands::keys;
use crate::progress::Shown;
use crate::report::{self, Output};

/// Build, sign and deploy an app to a node
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gw push examples/01-embed --to http://127.0.0.1:8788")]
pub(crate) struct Args {
    /// The app's folder, which holds gw.toml
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    node: Node,
    /// The private key to sign with [default: gw/key in the user's configuration folder]
    #[arg(long, env = "GW_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // What can fail at once fails before the build, which takes its time.
    let app = App::open(&args.folder)?;
    let (_, key) = keys::load(args.key.clone())?;
    let client = Client::new(&args.node)?;
    let content = app.build()?;
    let bundle = bundle::pack(&content, &key).context("packing the bundle")?;
    report::note(format_args!(
        "pushing {} {} ({})",
        app.manifest.app.name,
        app.manifest.app.version,
        report::bytes(bundle.len() as u64)
    ));
    let answer = client.push(&bundle, &Shown::default())?;
    args.output.print(&answer, |answer| text(&app, answer))
}

/// The revision, and a line per route.
fn text(app: &App, answer: &Value) -> String {
    let revision = answer["revision"].as_str().unwrap_or("?");
    let mut text = format!("{} is live at {revision}\n", app.manifest.app.name);
    for route in &app.manifest.routes {
        text.push_str(&format!("  {} {}\n", route.methods.join(","), route.path));
    }
    text
}
