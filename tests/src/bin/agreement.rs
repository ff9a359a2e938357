//! `agreement`: real models on one device against ONNX Runtime.
#![expect(clippy::print_stdout, reason = "the rows are this command's output")]

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use gw_tests::agreement::{Agreement, Place, measure, models};

/// Runs real models and prints how far each is from ONNX Runtime: the largest error over the
/// range of its output. Exits with 1 where one is off by more than the bound.
#[derive(Parser)]
#[command(name = "agreement")]
struct Args {
    /// `cpu`, `interpreter` (the engine without an adapter), or a part of an adapter's name.
    #[arg(long, default_value = "llvmpipe")]
    device: String,
    /// Run every node by itself: the slow and simple plan.
    #[arg(long)]
    no_fuse: bool,
    /// Only models whose name contains this text.
    #[arg(long, default_value = "")]
    only: String,
    /// The largest error that passes.
    #[arg(long, default_value_t = 1e-3)]
    bound: f64,
    /// Print JSON.
    #[arg(short, long, value_parser = ["table", "json"], default_value = "table")]
    output: String,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let place = Place::open(&args.device, !args.no_fuse)?;
    let mut rows: Vec<Agreement> = Vec::new();
    for case in models()?.iter().filter(|case| case.name.contains(&args.only)) {
        let row = measure(case, &place);
        if args.output == "table" {
            let error = row.error.as_deref().unwrap_or_default();
            println!("{:<22} {:>4} sets {:>12.3e} {error}", row.model, row.sets, row.worst);
            let _ = std::io::stdout().flush();
        }
        rows.push(row);
    }
    if args.output == "json" {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    }
    let holds = !rows.is_empty() && rows.iter().all(|row| row.worst <= args.bound);
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
