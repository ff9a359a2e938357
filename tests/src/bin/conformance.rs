//! `conformance`: the node tests of ONNX through the engine.
#![expect(clippy::print_stdout, reason = "the report is this command's output")]

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use gw_tests::conformance::report::Report;
use gw_tests::conformance::{Ended, Options, Outcome, page, run};
use gw_tests::repo;

/// Runs the node tests of ONNX through the engine and counts what passes. Exits with 1 where an
/// answer is wrong; a case that is refused with a clear error is counted as unsupported.
#[derive(Parser)]
#[command(name = "conformance")]
struct Args {
    /// `interpreter` (the engine without an adapter), or a part of an adapter's name.
    #[arg(long, default_value = "llvmpipe")]
    device: String,
    /// Let the CPU backend run what the adapter refuses.
    #[arg(long)]
    cpu: bool,
    /// Only cases whose name contains this text.
    #[arg(long, default_value = "")]
    only: String,
    /// Only every Nth case, for a fast sample.
    #[arg(long, value_name = "N", default_value_t = 1)]
    every: usize,
    /// Cases in this folder, one folder each in ONNX's layout, instead of ONNX's own.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Also list every case that did not pass, with the reason.
    #[arg(long)]
    details: bool,
    /// Write the list of operators, `gateway/engine/OPS.md`, from this run.
    #[arg(long, conflicts_with_all = ["cpu", "only", "every", "data"])]
    write_ops: bool,
    /// How to print the report.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let options = Options {
        device: args.device,
        cpu: args.cpu,
        only: args.only,
        every: args.every,
        data: args.data,
    };
    // A panic is one failed case of the report.
    std::panic::set_hook(Box::new(|_| {}));
    let on_terminal = std::io::stderr().is_terminal();
    let ended = run(&options, &|index, total| {
        if on_terminal {
            let _ = write!(std::io::stderr(), "\r{index}/{total} ");
        }
    })?;
    if on_terminal {
        let _ = writeln!(std::io::stderr());
    }
    let report = Report::of(&ended);
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Output::Table => print_table(&report),
    }
    if args.details {
        print_details(&ended);
    }
    if args.write_ops {
        std::fs::write(repo().join("gateway/engine/OPS.md"), page::page(&ended))?;
    }
    Ok(if report.counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_table(report: &Report) {
    println!("{:<14} {:>7} {:>7} {:>12}", "family", "passed", "failed", "unsupported");
    let all = [("all", report.counts)];
    for (family, counts) in report.families.iter().map(|(name, counts)| (*name, *counts)).chain(all)
    {
        println!(
            "{family:<14} {:>7} {:>7} {:>12}",
            counts.passed, counts.failed, counts.unsupported
        );
    }
    for (name, reason) in &report.failures {
        println!("failed {name}: {reason}");
    }
}

fn print_details(ended: &[Ended]) {
    for Ended { name, outcome, .. } in ended {
        match outcome {
            Outcome::Passed => {}
            Outcome::Failed(reason) => println!("failed {name}: {reason}"),
            Outcome::Unsupported(reason) => println!("unsupported {name}: {reason}"),
        }
    }
}
