//! The compute kernels of gw: one `.wgsl` and one `.rs` of the same stem, side by side.
//!
//! It knows no GPU API and no model format: a family turns a spec (sizes, strides, what to
//! compute) into [`kernel::Dispatch`]es, which are text and numbers, and says what the answer is
//! with a plain loop, `reference`.
//!
//! - [`kernel`]: what a kernel is: text, bindings, needs; what an adapter offers.
//! - [`expr`]: element-wise arithmetic as data, for [`pointwise`] and for epilogues.
//! - [`layout`]: where an operand lies in its buffer. [`data`]: what a reference reads and gives.
//! - The families: [`pointwise`], [`gemm`], [`attention`], [`norm`], [`softmax`], [`reduce`],
//!   [`gather`], [`scatter`], [`scan`], [`sort`], [`trees`], [`det`], [`conv`], [`pool`],
//!   [`fold`], [`resample`], [`sample`], [`roi`], [`lrn`], [`linear_attention`], [`recurrent`].
//! - [`work`]: the spec of any family, and what it costs. [`peak`]: what an adapter can do at most.
//!
//! Every family has `Spec`, `variants(spec, caps)` (each way that the adapter allows, the
//! default first), `dispatch(spec, caps)` (the default) and `reference(spec, inputs)`. Bindings
//! are the inputs in the order that the family documents, then the outputs.
//!
//! ```
//! use gw_shaders::{kernel::Caps, softmax};
//! let spec = softmax::Spec { outer: 2, len: 10, inner: 1, log: false };
//! let dispatch = softmax::dispatch(&spec, &Caps::minimal())?;
//! assert!(dispatch.kernel.source.contains("fn main"));
//! # Ok::<(), gw_shaders::kernel::Unsupported>(())
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "references narrow from f64 to what a device holds, as a device does"
)]

#[cfg(test)]
mod check;
mod compose;
mod lanes;
mod operands;

pub mod attention;
pub mod conv;
pub mod data;
pub mod det;
pub mod embed;
pub mod expr;
pub mod fold;
pub mod gather;
pub mod gemm;
pub mod kernel;
pub mod layout;
pub mod linear_attention;
pub mod lrn;
pub mod norm;
pub mod peak;
pub mod pointwise;
pub mod pool;
pub mod recurrent;
pub mod reduce;
pub mod resample;
pub mod roi;
pub mod sample;
pub mod scan;
pub mod scatter;
pub mod softmax;
pub mod sort;
pub mod trees;
pub mod work;

pub use gemm::{dot, normed};

/// The name of every family, as [`kernel::Kernel::name`] has it.
pub const FAMILIES: [&str; 22] = [
    "attention",
    "conv",
    "det",
    "embed",
    "fold",
    "gather",
    "gemm",
    "linear_attention",
    "lrn",
    "norm",
    "pointwise",
    "pool",
    "recurrent",
    "reduce",
    "resample",
    "roi",
    "sample",
    "scan",
    "scatter",
    "softmax",
    "sort",
    "trees",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_listed() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut named: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
            .filter_map(|text| {
                let (_, rest) = text.split_once("\nconst NAME: &str = \"")?;
                Some(rest.split('"').next()?.to_owned())
            })
            .collect();
        named.sort();
        assert_eq!(named, FAMILIES);
    }
}
