//! `gw keys`: the keys that sign bundles.

use std::path::PathBuf;

use anyhow::Context as _;
use gw_artifact::keys::SigningKey;
use serde::Serialize;

use crate::report::{self, Advice, Output};

/// Make and show the key that signs bundles
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gw keys new\n  gw serve --state node --trust ed25519:…")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key and print its public half, which a node trusts with `gw serve --trust`
    New {
        /// Where to keep the private key [default: gw/key in the user's configuration folder]
        #[arg(long, env = "GW_OUT", value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Print the public half of a key
    Show {
        /// The private key [default: gw/key in the user's configuration folder]
        #[arg(long, env = "GW_KEY", value_name = "FILE")]
        key: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
}

/// What is printed about a key.
#[derive(Serialize)]
struct Shown {
    public_key: String,
    file: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.action {
        Action::New { out, output } => new(out.clone(), *output),
        Action::Show { key, output } => {
            let (file, key) = load(key.clone())?;
            show(file, &key, *output)
        }
    }
}

fn new(out: Option<PathBuf>, output: Output) -> anyhow::Result<()> {
    let file = or_default(out)?;
    if file.exists() {
        let message = format!("{} exists, and a key is never overwritten", file.display());
        let hint =
            "choose another file with --out, or print this key's public half with gw keys show";
        return Err(Advice::new(message).hint(hint).into());
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("making the folder {}", folder.display()))?;
    }
    let key = SigningKey::generate()?;
    key.save(&file).with_context(|| format!("writing the key to {}", file.display()))?;
    report::note(format_args!("the private key is in {}: keep it secret", file.display()));
    show(file, &key, output)
}

fn show(file: PathBuf, key: &SigningKey, output: Output) -> anyhow::Result<()> {
    let shown = Shown { public_key: key.public().to_string(), file };
    output.print(&shown, |shown| shown.public_key.clone())
}

/// The private key in `file`, or the user's own.
///
/// # Errors
/// Where there is none, or it cannot be read.
pub(crate) fn load(file: Option<PathBuf>) -> anyhow::Result<(PathBuf, SigningKey)> {
    let file = or_default(file)?;
    if !file.exists() {
        let message = format!("there is no key in {}", file.display());
        return Err(Advice::new(message).hint("make one with gw keys new").into());
    }
    let key = SigningKey::load(&file)
        .with_context(|| format!("reading the key in {}", file.display()))?;
    Ok((file, key))
}

fn or_default(file: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(file) = file {
        return Ok(file);
    }
    let folder = dirs::config_dir().ok_or_else(|| {
        Advice::new("this user has no configuration folder").hint("name the key's file instead")
    })?;
    Ok(folder.join("gw").join("key"))
}
