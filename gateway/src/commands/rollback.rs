//! `gw rollback`: back to an earlier revision of an app.

use serde_json::Value;

use crate::admin::{Client, Node};
use crate::report::{Advice, Output};

/// The fewest digits that name a revision: fewer meet by chance.
const DIGITS_MIN: usize = 6;
/// A whole SHA-256 digest.
const DIGITS: usize = 64;

/// Make an earlier revision of an app live again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gw rollback semantic-search                  # to the revision before the live one
  gw rollback semantic-search 1f3a90           # to the one whose digest begins so; see gw status")]
pub(crate) struct Args {
    /// The app's name
    app: String,
    /// The digest, or 6 or more of its first digits [default: the revision before the live one]
    revision: Option<String>,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let client = Client::new(&args.node)?;
    let revision = match &args.revision {
        Some(given) => Some(whole(&client, &args.app, given)?),
        None => None,
    };
    let answer = client.rollback(&args.app, revision.as_deref())?;
    args.output.print(&answer, |answer| {
        let live = ["revision", "live", "digest"].iter().find_map(|key| answer[key].as_str());
        format!("{} is live at {}", args.app, live.unwrap_or("an earlier revision"))
    })
}

/// The whole digest that `given` stands for.
fn whole(client: &Client, app: &str, given: &str) -> anyhow::Result<String> {
    let digits = given.strip_prefix("sha256:").unwrap_or(given).to_lowercase();
    if digits.len() >= DIGITS || digits.len() < DIGITS_MIN {
        return Ok(choose(&Value::Null, app, &digits)?);
    }
    Ok(choose(&client.status()?, app, &digits)?)
}

/// The one revision of `app` whose digest begins with `digits`.
fn choose(status: &Value, app: &str, digits: &str) -> Result<String, Advice> {
    if digits.len() >= DIGITS {
        return Ok(format!("sha256:{digits}"));
    }
    if digits.len() < DIGITS_MIN {
        let message = format!("{digits:?} is too short for a revision");
        return Err(Advice::new(message)
            .hint(format!("give at least {DIGITS_MIN} digits of what gw status shows"))
            .usage());
    }
    let apps = status["apps"].as_array().into_iter().flatten();
    let of_app = apps.filter(|entry| entry["app"] == app);
    let revisions = of_app.flat_map(|entry| entry["revisions"].as_array().into_iter().flatten());
    let digests = revisions.filter_map(|revision| revision["digest"].as_str());
    let begins = |digest: &&str| digest.trim_start_matches("sha256:").starts_with(digits);
    let found: Vec<&str> = digests.filter(begins).collect();
    match found[..] {
        [one] => Ok(one.to_owned()),
        [] => Err(Advice::new(format!("{app} has no revision that begins with {digits}"))
            .hint("gw status shows what can be rolled back to")),
        _ => Err(Advice::new(format!("{digits} stands for several revisions of {app}"))
            .hint(format!("give more digits: {}", found.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_revision_is_named_by_the_start_of_its_digest() {
        let revisions = json!([{"digest": "sha256:aaaaaa11"}, {"digest": "sha256:aaaaaa22"}]);
        let other = json!({"app": "other", "revisions": [{"digest": "sha256:aaaaaa33"}]});
        let status = json!({"apps": [{"app": "search", "revisions": revisions}, other]});
        let chosen =
            |digits: &str| choose(&status, "search", digits).map_err(|advice| advice.to_string());
        assert_eq!(chosen("aaaaaa2").unwrap(), "sha256:aaaaaa22");
        assert!(chosen("aaaaaa").unwrap_err().contains("several"));
        assert!(chosen("aaaaaa3").unwrap_err().contains("no revision"));
        assert!(chosen("aaaaa").unwrap_err().contains("too short"));
        let all = "b".repeat(DIGITS);
        assert_eq!(chosen(&all).unwrap(), format!("sha256:{all}"), "the node knows whether it is");
    }
}
