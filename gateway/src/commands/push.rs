//! `gw push`: an app, built, bundled, signed and uploaded.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use gw_artifact::bundle;
use serde_json::Value;

use crate::admin::{Client, Node};
use crate::app::App;
use crate::commands::keys;
use crate::progress::Shown;
use crate::report::Output;

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
    let answer = client.push(&app.manifest.app.name, &bundle, &Shown::uploading())?;
    args.output.print(&answer, |answer| text(&app, answer))
}

/// The revision, and a line per route.
fn text(app: &App, answer: &Value) -> String {
    let revision = answer["revision"].as_str().unwrap_or("?");
    let mut text = format!("{} is live at {revision}\n", app.manifest.app.name);
    for route in &app.manifest.routes {
        let _ = writeln!(text, "  {} {}", route.methods.join(","), route.path);
    }
    text
}
