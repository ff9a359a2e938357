//! The compute kernels of gw: one `.wgsl` and one `.rs` of the same stem, side by side.
#![forbid(unsafe_code)]

pub mod expr;
pub mod kernel;
