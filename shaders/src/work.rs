//! What one step computes, whatever the adapter: the spec of its family.
//!
//! A spec is all that a family needs to make a kernel, and all that its plain reference needs to
//! compute the same on the CPU.

mod cost;

use std::borrow::Borrow;

pub use cost::Cost;

use crate::conv::last as conv_last;
use crate::data::Data;
use crate::kernel::{Caps, Dispatch, Unsupported};
use crate::{
    attention, conv, det, dot, embed, fold, gather, gemm, linear_attention, lrn, norm, normed,
    pointwise, pool, recurrent, reduce, resample, roi, sample, scan, scatter, softmax, sort, trees,
};

macro_rules! work {
    ($($variant:ident: $family:ident,)*) => {
        /// The spec of one step.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Work {
            $(#[doc = concat!("Of [`", stringify!($family), "`].")]
            $variant($family::Spec),)*
        }

        $(impl From<$family::Spec> for Work {
            fn from(spec: $family::Spec) -> Self {
                Self::$variant(spec)
            }
        })*

        impl Work {
            /// The kernel that does it, by default.
            ///
            /// # Errors
            /// Where the family cannot do it on this adapter.
            pub fn dispatch(&self, caps: &Caps) -> Result<Dispatch, Unsupported> {
                match self {
                    $(Self::$variant(spec) => $family::dispatch(spec, caps),)*
                }
            }

            /// Every kernel that does it on this adapter, the default first.
            ///
            /// # Errors
            /// Where the family cannot do it there.
            pub fn variants(&self, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
                match self {
                    $(Self::$variant(spec) => $family::variants(spec, caps),)*
                }
            }

            /// What the output holds afterwards, in plain Rust; zero where nothing is stored.
            ///
            /// # Panics
            /// Where the inputs are not those of the spec.
            pub fn reference<D: Borrow<Data>>(&self, inputs: &[D]) -> Data {
                match self {
                    $(Self::$variant(spec) => first($family::reference(spec, inputs)),)*
                }
            }
        }
    };
}

work! {
    Attention: attention,
    Conv: conv,
    ConvLast: conv_last,
    Det: det,
    Dot: dot,
    Embed: embed,
    Fold: fold,
    Gather: gather,
    Gemm: gemm,
    LinearAttention: linear_attention,
    Lrn: lrn,
    Norm: norm,
    Normed: normed,
    Pointwise: pointwise,
    Pool: pool,
    Recurrent: recurrent,
    Reduce: reduce,
    Resample: resample,
    Roi: roi,
    Sample: sample,
    Scan: scan,
    Scatter: scatter,
    Softmax: softmax,
    Sort: sort,
    Trees: trees,
}

/// The result of a reference, which some give together with more.
fn first(results: impl Into<Results>) -> Data {
    results.into().0
}

struct Results(Data);

impl From<Data> for Results {
    fn from(data: Data) -> Self {
        Self(data)
    }
}

impl From<[Data; 2]> for Results {
    fn from([data, _]: [Data; 2]) -> Self {
        Self(data)
    }
}

impl Work {
    /// Whether its reference computes nothing that the reference of another part of the same
    /// node does not: kernels take long loops in parts, references take them whole.
    pub fn is_covered(&self) -> bool {
        match self {
            Self::Recurrent(spec) => spec.part[0] > 0,
            Self::LinearAttention(spec) => spec.part[0] > 0,
            Self::Sort(spec) => !spec.is_last(),
            _ => false,
        }
    }
}
