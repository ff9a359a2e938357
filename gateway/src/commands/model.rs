//! `gw model`: the models of a node, the memory that they hold, and whether they hold any.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::admin::{Client, Node, plain};
use crate::report::{self, Output};

/// Show the models of a node with the memory that they hold, load and unload them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gw model ls --to http://127.0.0.1:8788 -o json
  gw model unload minilm                       # until the next request for it")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the models of a node, what each holds, and what is left of its devices
    Ls {
        #[command(flatten)]
        node: Node,
        #[command(flatten)]
        output: Output,
    },
    /// Load a model of a node now, so that no request waits for it
    Load(One),
    /// Free the memory of a model of a node; the next request for it loads it again
    Unload(One),
}

// Its comment must not be one of documentation: clap would take it for the help of both.
#[derive(Debug, clap::Args)]
struct One {
    /// The model's name, as gw model ls shows it
    name: String,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.action {
        Action::Ls { node, output } => output.print(&Client::new(node)?.models()?, text),
        Action::Load(one) => one.print(&Client::new(&one.node)?.load_model(&one.name)?),
        Action::Unload(one) => one.print(&Client::new(&one.node)?.unload_model(&one.name)?),
    }
}

impl One {
    fn print(&self, model: &Value) -> anyhow::Result<()> {
        self.output.print(model, |model| {
            let (state, held) = (plain(&model["state"]), size(&model["total_bytes"]));
            format!("{} is {state} on {} and holds {held}", self.name, plain(&model["device"]))
        })
    }
}

/// The digits of a digest that tell the files of a node apart.
const DIGITS: usize = 12;

const HEADINGS: [&str; 13] = [
    "NAME",
    "DIGEST",
    "DEVICE",
    "STATE",
    "WEIGHTS",
    "ARENA",
    "STAGING",
    "KEPT",
    "TOTAL",
    "ON HOST",
    "IDLE",
    "PINNED",
    "KEEP ALIVE",
];

/// A line per model, and below them one per device.
fn text(ledger: &Value) -> String {
    let models: Vec<_> = listed(&ledger["models"]).map(row).collect();
    if models.is_empty() {
        return "no model is deployed yet".to_owned();
    }
    let mut text = table(&models);
    text.push('\n');
    for device in listed(&ledger["devices"]) {
        let name = plain(&device["device"]);
        let _ = writeln!(text, "{name}: {}", used(&device["used_bytes"], &device["max_bytes"]));
        if device["host_bytes"].as_u64().is_some_and(|bytes| bytes > 0) {
            let used = used(&device["host_bytes"], &device["host_max_bytes"]);
            let _ = writeln!(text, "{name}, on the host: {used}");
        }
    }
    text
}

fn used(bytes: &Value, max: &Value) -> String {
    match max {
        Value::Null => format!("{} used, no limit", size(bytes)),
        max => format!("{} of {} used", size(bytes), size(max)),
    }
}

fn row(model: &Value) -> [String; HEADINGS.len()] {
    let digest = plain(&model["digest"]);
    let digits = digest.trim_start_matches("sha256:");
    [
        plain(&model["name"]),
        digits.chars().take(DIGITS).collect(),
        plain(&model["device"]),
        plain(&model["state"]),
        size(&model["weight_bytes"]),
        size(&model["arena_bytes"]),
        size(&model["staging_bytes"]),
        size(&model["kept_bytes"]),
        size(&model["total_bytes"]),
        size(&model["host_bytes"]),
        time(&model["idle_seconds"]),
        if model["pinned"] == true { "yes" } else { "no" }.to_owned(),
        time(&model["keep_alive_seconds"]),
    ]
}

/// Columns as wide as their widest cell, below their headings.
fn table(rows: &[[String; HEADINGS.len()]]) -> String {
    let mut text = String::new();
    let headings = HEADINGS.map(str::to_owned);
    let all = || std::iter::once(&headings).chain(rows);
    let width = |at: usize| all().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    for row in all() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

fn listed(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn size(bytes: &Value) -> String {
    bytes.as_u64().map_or_else(|| "-".to_owned(), report::bytes)
}

/// Seconds, as a time for people.
fn time(seconds: &Value) -> String {
    let time = seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.map_or_else(|| "-".to_owned(), |time| indicatif::HumanDuration(time).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn models_stand_in_columns_above_their_devices() {
        let mib = |count: u64| count << 20;
        let ledger = json!({
            "models": [
                {
                    "name": "minilm", "digest": "sha256:0123456789abcdef", "device": "cpu",
                    "state": "loaded", "weight_bytes": mib(22), "arena_bytes": 0,
                    "staging_bytes": mib(1), "kept_bytes": 0, "total_bytes": mib(23),
                    "host_bytes": 0, "idle_seconds": 2.0, "pinned": true,
                    "keep_alive_seconds": null,
                },
                {
                    "name": "other", "digest": "sha256:fedcba9876543210", "device": "L4",
                    "state": "unloaded", "weight_bytes": 0, "arena_bytes": 0, "staging_bytes": 0,
                    "kept_bytes": 0, "total_bytes": 0, "host_bytes": 0, "idle_seconds": 120.0,
                    "pinned": false, "keep_alive_seconds": 60.0,
                },
            ],
            "devices": [
                {
                    "device": "L4", "used_bytes": 0, "max_bytes": mib(1024),
                    "host_bytes": mib(2), "host_max_bytes": null,
                },
                {"device": "cpu", "used_bytes": mib(23), "max_bytes": null},
            ],
        });
        let text_of = text(&ledger);
        let (models, devices) = text_of.split_once("\n\n").unwrap();
        let lines: Vec<&str> = models.lines().collect();
        let cells: Vec<Vec<&str>> =
            lines.iter().map(|line| line.split("  ").map(str::trim).collect()).collect();
        let cells = cells.into_iter().map(|row| {
            row.into_iter().filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("|")
        });
        assert_eq!(
            cells.collect::<Vec<_>>(),
            [
                HEADINGS.join("|").as_str(),
                "minilm|0123456789ab|cpu|loaded|22.00 MiB|0 B|1.00 MiB|0 B|23.00 MiB|0 B|2 seconds\
                 |yes|-",
                "other|fedcba987654|L4|unloaded|0 B|0 B|0 B|0 B|0 B|0 B|2 minutes|no|60 seconds",
            ]
        );
        let begins = |line: &str, cell: &str| line.find(cell).unwrap();
        let column = begins(lines[0], "TOTAL");
        assert_eq!(column, begins(lines[1], "23.00 MiB"), "{text_of}");
        assert_eq!(
            devices,
            "L4: 0 B of 1.00 GiB used\nL4, on the host: 2.00 MiB used, no limit\n\
             cpu: 23.00 MiB used, no limit\n"
        );
        assert_eq!(text(&json!({"models": [], "devices": []})), "no model is deployed yet");
    }
}
