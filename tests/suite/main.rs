//! What needs several crates at once: whole gateways on real sockets, and the rules of the house.
//!
//! - `embed`, `input`, `push`, `crash`, `reload`, `tools`: what a user does, one file per theme.
//! - `tidy`: layers, homes, names and sizes.

mod crash;
mod embed;
mod input;
mod push;
mod reload;
mod tidy;
mod tools;
