//! What needs several crates at once: whole gateways on real sockets, and the rules of the house.
//!
//! - `embed`, `input`, `load`, `push`, `crash`, `faults`, `plugins`, `reload`, `tools`: what a user
//!   does, one file per theme.
//! - `engine`: ONNX's node tests and real models.
//! - `tidy`: layers, homes, names and sizes.

#![allow(
    clippy::cast_possible_truncation,
    clippy::needless_pass_by_value,
    clippy::print_stdout,
    clippy::unnecessary_debug_formatting,
    reason = "tests build small things by hand, quote paths as TOML does, and print figures"
)]

mod crash;
mod embed;
mod engine;
mod faults;
mod input;
mod load;
mod plugins;
mod push;
mod reload;
mod tidy;
mod tools;
