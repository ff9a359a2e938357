//! `tests/figures`: measured figures, a row per key.
#![expect(clippy::print_stdout, reason = "the rows are this command's output")]

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use gw_tests::figures::{FIGURES, Row, select};

/// That of a node, as some figures are of this process's memory.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures what it is asked for side by side, and prints a row per key.
#[derive(Parser)]
#[command(name = "tests/figures", after_help = keys())]
struct Args {
    /// The figures to measure; all where none is given.
    keys: Vec<String>,
    /// How to print the rows.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn keys() -> String {
    let rows = FIGURES.iter().map(|figure| format!("  {:<20} {}", figure.key, figure.about));
    format!("keys:\n{}", rows.collect::<Vec<_>>().join("\n"))
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut rows = Vec::new();
    for figure in select(&args.keys)? {
        let _ = writeln!(std::io::stderr(), "measuring {}", figure.key);
        rows.push((figure.measure)()?);
    }
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
        Output::Table => print_table(&rows),
    }
    let all_hold = rows.iter().all(|row| row.holds);
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_table(rows: &[Row]) {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    println!(
        "{:<20} {:>12} {:>12} {:>8} {:<12} {:>5} {:<12} holds",
        "key", "ours", "peer", "ratio", "unit", "runs", "bar"
    );
    for row in rows {
        println!(
            "{:<20} {:>12} {:>12} {:>8} {:<12} {:>5} {:<12} {}",
            row.key,
            number(Some(row.ours)),
            number(row.peer),
            number(row.ratio),
            row.unit,
            row.runs,
            row.bar,
            if row.holds { "yes" } else { "NO" }
        );
    }
}
