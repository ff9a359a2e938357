//! The `gw` command: one binary that builds, deploys and runs Wasm plugins beside their models.
//!
//! It holds no logic of a request: it reads the command line and the configuration, wires the
//! library crates together, and tells the user what happened.
//!
//! - [`args`]: the command line as a whole; each command owns its own flags.
//! - [`commands`]: one file per command, all of the same shape: `Args` and `run`.
//! - [`app`]: an app's folder, built into what a node loads; [`guest`]: a plugin crate, built.
//! - [`node`]: the crates wired together, and served; [`config`]: its configuration file.
//! - [`models`]: the `MODEL` argument of the model tools; [`npy`]: tensors as files.
//! - [`admin`]: the client of a node's admin API.
//! - [`progress`]: long work, shown; [`report`]: how a command ends, told.
#![forbid(unsafe_code)]

mod admin;
mod app;
mod args;
mod commands;
mod config;
mod guest;
mod models;
mod node;
mod npy;
mod progress;
mod report;

use std::process::ExitCode;

/// Models come and go, and many threads read, fold and pack them: this allocator gives what they
/// leave back to the system.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = args::parse();
    let log = report::start_log();
    let result = commands::run(cli.command);
    // What it says last comes last.
    drop(log);
    report::end(result)
}
