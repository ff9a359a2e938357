//! Random numbers, the same in every run: a counter goes through a mixer (`SplitMix64`), so element
//! `i` of a node depends on its seed and on `i` alone.
//!
//! Where a model gives no `seed`, it is made of the node's name: two nodes differ, two runs do
//! not. ONNX leaves the numbers open.

use gw_shaders::expr::Binary;
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce;
use gw_tensor::{DType, Shape};

use super::{Call, Table, elementwise, expect_rank, sizes};
use crate::error::OpError;
use crate::graph::Attr;
use crate::net::Operand;
use crate::net::builder::check_size;
use crate::net::fold::{self, Number};

pub(super) const OPS: Table = &[
    ("Bernoulli", bernoulli),
    ("Multinomial", multinomial),
    ("RandomNormal", random),
    ("RandomNormalLike", random),
    ("RandomUniform", random),
    ("RandomUniformLike", random),
];

/// Numbers that one node may draw: they are weights of the plan.
const DRAWN_MAX: usize = 1 << 24;

/// The state of one node's numbers.
struct Source(u64);

impl Source {
    fn of(call: &Call<'_>) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let bytes = match call.attr("seed") {
            Some(Attr::Float(seed)) => seed.to_bits().to_le_bytes().to_vec(),
            _ => call.node.name.clone().into_bytes(),
        };
        for byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Self(hash)
    }

    /// Element `index`: uniform in 0..1, in steps that `f32` holds.
    fn uniform(&self, index: usize) -> f64 {
        let mut word = self.0.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        (word >> 40) as f64 / (1u64 << 24) as f64
    }

    /// Element `index`: normal, by Box and Muller.
    fn normal(&self, index: usize) -> f64 {
        // One half step away from zero, which has no logarithm.
        let radius = self.uniform(2 * index) + 0.5 / (1u64 << 24) as f64;
        let angle = std::f64::consts::TAU * self.uniform(2 * index + 1);
        (-2.0 * radius.ln()).sqrt() * angle.cos()
    }
}

fn drawn(
    call: &mut Call<'_>,
    shape: &[usize],
    dtype: DType,
    value: impl Fn(&Source, usize) -> f64,
) -> Result<Operand, OpError> {
    let count = check_size(shape)?;
    if count > DRAWN_MAX {
        let (what, shape) = ("random numbers".to_owned(), Shape::from(shape));
        return Err(OpError::TooLarge { what, shape, limit: DRAWN_MAX });
    }
    let source = Source::of(call);
    let values: Vec<Number> =
        (0..count).map(|index| Number::Float(value(&source, index))).collect();
    let tensor = fold::tensor(dtype, shape, &values);
    let tensor = tensor.ok_or(OpError::Type { what: "output 0".to_owned(), given: dtype })?;
    Ok(call.builder.constant(tensor))
}

/// `RandomNormal`, `RandomUniform` and their forms that take the shape of an input (ONNX 22).
fn random(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let like = call.node.op.ends_with("Like").then(|| call.input(0)).transpose()?;
    let shape = match &like {
        Some(x) => x.shape(),
        None => {
            let shape = call.ints("shape").ok_or_else(|| OpError::Missing("shape".to_owned()))?;
            sizes(&shape)?
        }
    };
    let dtype = call.dtype("dtype")?.or(like.map(|x| x.dtype)).unwrap_or(DType::F32);
    if !dtype.is_float() {
        return Err(OpError::Type { what: "output 0".to_owned(), given: dtype });
    }
    let result = if call.node.op.starts_with("RandomNormal") {
        let (mean, scale) =
            (f64::from(call.float("mean", 0.0)), f64::from(call.float("scale", 1.0)));
        drawn(call, &shape, dtype, |source, index| mean + scale * source.normal(index))?
    } else {
        let (low, high) = (f64::from(call.float("low", 0.0)), f64::from(call.float("high", 1.0)));
        drawn(call, &shape, dtype, |source, index| low + (high - low) * source.uniform(index))?
    };
    Ok(vec![result])
}

/// `Bernoulli` (ONNX 22): one with the probability that the input gives.
fn bernoulli(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dtype = call.dtype("dtype")?.unwrap_or(x.dtype);
    let chance = call.builder.as_float(&x)?;
    let drawn = drawn(call, &x.shape(), chance.dtype, Source::uniform)?;
    let is_one = elementwise::apply(call.builder, Binary::Less, &drawn, &chance)?;
    Ok(vec![elementwise::convert(call.builder, &is_one, dtype)?])
}

/// `Multinomial` (ONNX 22): classes drawn by their logarithmic weights `[batch, classes]`. The
/// largest of the weights with a Gumbel variable added to each is distributed so.
fn multinomial(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    expect_rank("input 0", &dims, 2)?;
    if x.scalar() != Scalar::F32 {
        return Err(OpError::Type { what: "input 0".to_owned(), given: x.dtype });
    }
    let samples = sizes(&[call.int("sample_size", 1)])?[0];
    let dtype = call.dtype("dtype")?.unwrap_or(DType::I32);
    let shape = [dims[0], samples, dims[1]];
    let gumbel = drawn(call, &shape, x.dtype, |source, index| {
        let chance = source.uniform(index) + 0.5 / (1u64 << 24) as f64;
        -(-chance.ln()).ln()
    })?;
    let builder = &mut *call.builder;
    let x = builder.reshape(&x, &[dims[0], 1, dims[1]])?;
    let sum = elementwise::apply(builder, Binary::Add, &x, &gumbel)?;
    let first = reduce::Op::ArgMax { last: false };
    let drawn = super::reduce::over(builder, first, &sum, &[2], false, DType::I64)?;
    Ok(vec![elementwise::convert(builder, &drawn, dtype)?])
}
