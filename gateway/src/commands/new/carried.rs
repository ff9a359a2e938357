//! The files that this program carries, by their paths with `/` between parts.

include!(concat!(env!("OUT_DIR"), "/carried.rs"));
