//! `gw status`: what a node serves.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::admin::{Client, Node, plain};
use crate::report::Output;

/// Show the apps of a node with their revisions
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gw status --to http://127.0.0.1:8788 -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let status = Client::new(&args.node)?.status()?;
    args.output.print(&status, text)
}

/// One line per revision, the newest first; `*` marks the live one, `x` one in quarantine.
fn text(status: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = String::new();
    for app in status["apps"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "{}", plain(&app["app"]));
        for revision in app["revisions"].as_array().into_iter().flatten().rev() {
            let mark = match (&revision["live"], &revision["quarantined"]) {
                (Value::Bool(true), _) => '*',
                (_, Value::Null) => ' ',
                _ => 'x',
            };
            let _ = writeln!(
                text,
                "{mark} {}  {}  {}  {}",
                plain(&revision["digest"]),
                plain(&revision["version"]),
                age(&revision["created"], now),
                plain(&revision["signer"]),
            );
        }
        if let Some(reason) = app["fallback"]["reason"].as_str() {
            let wanted = plain(&app["fallback"]["wanted"]);
            let _ = writeln!(text, "! {wanted} should be live, and is not: {reason}");
        }
    }
    if text.is_empty() { "nothing is deployed yet".to_owned() } else { text }
}

/// How long ago a moment was that is given in seconds since 1970.
fn age(created: &Value, now: Duration) -> String {
    let Some(created) = created.as_u64() else { return "-".to_owned() };
    let ago = now.saturating_sub(Duration::from_secs(created));
    format!("{} ago", indicatif::HumanDuration(ago))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_live_revision_is_marked() {
        let status = json!({"apps": [{"app": "search", "live": "sha256:a", "revisions": [
            {"digest": "sha256:a", "version": "1", "signer": "k", "live": true},
            {"digest": "sha256:b", "version": "2", "live": false},
            {"digest": "sha256:c", "version": "3", "live": false, "quarantined": "traps"},
        ], "fallback": {"wanted": "sha256:b", "reason": "no model"}}]});
        assert_eq!(
            text(&status),
            "search\nx sha256:c  3  -  -\n  sha256:b  2  -  -\n* sha256:a  1  -  k\n! sha256:b should be live, and is \
             not: no model\n"
        );
        assert_eq!(text(&json!({"apps": []})), "nothing is deployed yet");
    }

    #[test]
    fn moments_are_told_as_ages() {
        let now = Duration::from_secs(1_000_000);
        assert_eq!(age(&json!(1_000_000 - 120), now), "2 minutes ago");
        assert_eq!(age(&json!(2_000_000), now), "0 seconds ago", "clocks may differ");
    }
}
