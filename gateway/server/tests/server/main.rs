//! A node on real sockets, with real plugins behind it and real clients before it.
//!
//! One program, because each would compile a whole node into it once more.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

#[path = "../../../host/tests/guests/double.rs"]
mod double;
mod http;
mod node;
mod overload;
mod streams;
