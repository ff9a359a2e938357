//! `gw bench`: how fast one model runs on one device, and how an endpoint bears load.
//!
//! - [`model`]: runs of a model with random inputs; [`trace`]: its profile as a file.
//! - [`cold`]: the first and the second start of a model.
//! - [`load`]: requests to a URL.
//! - [`inputs`]: what a model is run on.

mod cold;
mod inputs;
mod load;
mod model;
mod trace;

use crate::report::{Advice, Output};

/// Measure a model on one device with random inputs, or an endpoint under load
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gw bench model.onnx --device cpu --shape input_ids=1x128 --runs 50
  gw bench model.onnx --device llvmpipe --profile --trace run.json
  gw bench model.onnx --device llvmpipe --cold
  gw bench http://127.0.0.1:8787/embed --data '{\"input\": \"a cat\"}' --duration 30s
  gw bench http://127.0.0.1:8787/embed --lines texts.jsonl --rate 200 --connections 256

An http or https URL is an endpoint, unless its path ends in .onnx: that is a model to fetch.

The device `noop` takes every command and computes nothing: what is left is the work of the CPU.
Inputs are repeatable: integers are 0 or 1 (valid token ids of any vocabulary), inputs with `mask`
in their name are all ones, floats are uniform between 0 and 1.

With --rate a latency begins when its request was due, so that one which waited for a connection
counts its wait; what no connection was free for until the end is `unsent`. Answers of 429 and 503
are refusals, with latencies of their own.")]
pub(crate) struct Args {
    /// An ONNX file, a source such as hf:org/repo#model.onnx, or the URL of an endpoint
    #[arg(value_name = "MODEL|URL")]
    target: String,
    #[command(flatten)]
    model: model::Flags,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    load: load::Flags,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Args { target, model, output, load } = args;
    if is_endpoint(target) {
        if let Some(flag) = model.first_given() {
            let hint = "a URL is an endpoint, unless its path ends in .onnx";
            return Err(misplaced(flag, "is for models").hint(hint).into());
        }
        return load::run(target, load, *output);
    }
    if let Some(flag) = load.first_given() {
        let hint = "an endpoint is a URL such as http://127.0.0.1:8787/embed";
        return Err(misplaced(flag, "is for endpoints").hint(hint).into());
    }
    match model {
        model::Flags { plans: Some(plans), .. } => cold::answer_once(target, model, plans),
        model::Flags { cold: true, .. } => cold::run(target, model, *output),
        _ => model::run(target, model, *output),
    }
}

fn misplaced(flag: &str, reason: &str) -> Advice {
    Advice::new(format!("--{flag} {reason}")).usage()
}

/// Whether a target is asked over HTTP, not fetched as a model and run here.
fn is_endpoint(target: &str) -> bool {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    let path = rest.map(|rest| rest.split(['?', '#']).next().unwrap_or_default());
    path.is_some_and(|path| !path.to_ascii_lowercase().ends_with(".onnx"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_endpoint_unless_it_is_of_an_onnx_file() {
        let cases = [
            ("http://127.0.0.1:8787/embed", true),
            ("https://gw.example", true),
            ("https://gw.example/v1/models/m.onnx/infer", true),
            ("https://gw.example/search?file=m.onnx", true),
            ("https://hub.example/m.onnx", false),
            ("https://hub.example/M.ONNX?download=true", false),
            ("https://hub.example/m.onnx#x", false),
            ("hf:org/repo#m.onnx", false),
            ("http", false),
        ];
        for (target, expected) in cases {
            assert_eq!(is_endpoint(target), expected, "{target}");
        }
    }
}
