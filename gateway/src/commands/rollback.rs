//! `gw rollback`: back to an earlier revision of an app.

use crate::admin::{Client, Node};
use crate::report::Output;

/// Make an earlier revision of an app live again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gw rollback semantic-search                  # to the revision before the live one
  gw rollback semantic-search sha256:1f3a…     # to this one; see gw status")]
pub(crate) struct Args {
    /// The app's name
    app: String,
    /// The revision's digest [default: the revision before the live one]
    revision: Option<String>,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let client = Client::new(&args.node)?;
    let answer = client.rollback(&args.app, args.revision.as_deref())?;
    args.output.print(&answer, |answer| {
        let live = ["revision", "live", "digest"].iter().find_map(|key| answer[key].as_str());
        format!("{} is live at {}", args.app, live.unwrap_or("an earlier revision"))
    })
}
