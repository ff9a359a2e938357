//! `gateway/engine/OPS.md`: which operators there are, and which node tests are refused and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::report::Report;
use super::{Ended, Outcome};

/// The page for one whole run on a GPU alone.
pub fn page(ended: &[Ended]) -> String {
    let Report { total, counts, .. } = Report::of(ended);
    let mut page = format!(
        "# Operators\n\n\
         Written by `cargo run --release -p gw-tests --bin conformance -- --write-ops`; do not edit.\n\n\
         Of the {total} node tests of ONNX 1.22, {} pass on llvmpipe without the CPU, {} give a \
         wrong answer, and {} are refused with a clear error.\n",
        counts.passed, counts.failed, counts.unsupported
    );
    page.push_str(&operators());
    page.push_str(&refused(ended));
    page
}

/// The operators by family.
pub fn operators() -> String {
    let mut text =
        "\n## What runs\n\nBy family, which is a file of `src/ops`. Names with a domain \
                    are not `ai.onnx`; `gw.Call` stands for a function of the model.\n\n\
                    | family | operators |\n|---|---|\n"
            .to_owned();
    for (family, names) in gw_engine::operators::families() {
        let _ = writeln!(text, "| {family} | {} |", names.join(", "));
    }
    text
}

fn refused(ended: &[Ended]) -> String {
    let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for Ended { name, outcome, .. } in ended {
        if let Outcome::Unsupported(reason) = outcome {
            reasons.entry(general(reason)).or_default().push(name);
        }
    }
    let mut text = "\n## What is refused\n\n| reason | node tests |\n|---|---|\n".to_owned();
    for (reason, names) in reasons {
        let names: Vec<_> = names.iter().map(|name| name.trim_start_matches("test_")).collect();
        let _ = writeln!(text, "| {reason} | {} |", names.join(", "));
    }
    text
}

/// A reason without the names of this one model.
fn general(reason: &str) -> String {
    let reason = reason.trim_start_matches("model model.onnx");
    let reason = reason.trim_start_matches([':', ' ']);
    let mut text = String::new();
    for (index, part) in reason.split('`').enumerate() {
        text.push_str(if index % 2 == 0 { part } else { "…" });
    }
    for gone in ["value …: ", "node … ", " (node …)"] {
        text = text.replace(gone, "");
    }
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_lose_the_names_of_one_model() {
        assert_eq!(
            general("model model.onnx: node `Dropout_0` (Dropout): training mode is not supported"),
            "(Dropout): training mode is not supported"
        );
        assert_eq!(
            general("model model.onnx uses operators that are not supported: X (node `X_0`)"),
            "uses operators that are not supported: X"
        );
        assert_eq!(
            general("model model.onnx: value `x`: strings are not supported"),
            "strings are not supported"
        );
    }
}
