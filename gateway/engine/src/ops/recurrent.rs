//! Layers with a state: LSTM, GRU, RNN.

mod activation;

use gw_shaders::expr::{Binary, Expr};
use gw_shaders::kernel::Scalar;
use gw_shaders::recurrent::Cell;
use gw_tensor::{DType, Shape};

use super::quant::dequantize;
use super::{Call, Table, expect_rank};
use crate::error::OpError;
use crate::graph::Attr;
use crate::net::builder::Builder;
use crate::net::{Gemm, Kind, Operand, Recurrent};

pub(super) const OPS: Table = &[
    ("GRU", gru),
    ("LSTM", lstm),
    ("RNN", rnn),
    ("com.microsoft.DynamicQuantizeLSTM", dynamic_quantize_lstm),
];

fn rnn(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    layer(call, Cell::Rnn, &["tanh"])
}

fn gru(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let linear_before_reset = call.flag("linear_before_reset", false);
    layer(call, Cell::Gru { linear_before_reset }, &["sigmoid", "tanh"])
}

fn lstm(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let input_forget = call.flag("input_forget", false);
    let peepholes = call.optional(7).is_some();
    layer(call, Cell::Lstm { peepholes, input_forget }, &["sigmoid", "tanh", "tanh"])
}

/// `com.microsoft.DynamicQuantizeLSTM`: weights `[directions, input, 4 * hidden]` in bytes.
///
/// The states are not quantised in between, which ONNX Runtime does to multiply bytes: the result
/// is that of an LSTM with these weights.
fn dynamic_quantize_lstm(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let input_forget = call.flag("input_forget", false);
    let peepholes = call.optional(7);
    let cell = Cell::Lstm { peepholes: peepholes.is_some(), input_forget };
    let mut expanded = Vec::with_capacity(2);
    for (index, scale) in [(1, 8), (2, 10)] {
        let (x, factor, zero) = (call.input(index)?, call.input(scale)?, call.optional(scale + 1));
        expect_rank(&format!("input {index}"), &x.shape(), 3)?;
        let directions = x.shape()[0];
        // One for all columns of a direction, or one for each.
        let along = |builder: &mut Builder, given: &Operand| {
            let columns = given.layout.elements() / directions.max(1);
            builder.reshape(given, &[directions, 1, columns])
        };
        let factor = along(call.builder, &factor)?;
        let zero = zero.map(|zero| along(call.builder, &zero)).transpose()?;
        let floats = dequantize(call.builder, &x, &factor, zero.as_ref(), DType::F32)?;
        expanded.push(Builder::transpose(&floats, &[0, 2, 1]));
    }
    let (r, w) = (expanded.pop(), expanded.pop());
    let (Some(w), Some(r)) = (w, r) else { return Err(OpError::Missing("input 1".to_owned())) };
    run(call, cell, &Weights { w, r, peepholes }, &["sigmoid", "tanh", "tanh"])
}

fn layer(call: &mut Call<'_>, cell: Cell, defaults: &[&str]) -> Result<Vec<Operand>, OpError> {
    let weights = Weights { w: call.input(1)?, r: call.input(2)?, peepholes: call.optional(7) };
    run(call, cell, &weights, defaults)
}

/// What a layer has learned.
pub(super) struct Weights {
    /// `[directions, gates * hidden, input]`.
    pub(super) w: Operand,
    /// `[directions, gates * hidden, hidden]`.
    pub(super) r: Operand,
    /// `[directions, 3 * hidden]`, where the cell has some.
    pub(super) peepholes: Option<Operand>,
}

/// The sizes of a layer.
#[derive(Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    input: usize,
    directions: usize,
    gates: usize,
    hidden: usize,
}

/// The outputs: all states, the last state and, of an LSTM, the last cell.
///
/// Inputs 0 and 3 to 6 and the attributes are those of `LSTM`, `GRU` and `RNN` (ONNX 7 to 22);
/// `defaults` are the activations of one direction.
pub(super) fn run(
    call: &mut Call<'_>,
    cell: Cell,
    weights: &Weights,
    defaults: &[&str],
) -> Result<Vec<Operand>, OpError> {
    let batch_first = call.flag("layout", false);
    let mut x = call.input(0)?;
    expect_rank("input 0", &x.shape(), 3)?;
    if batch_first {
        x = Builder::transpose(&x, &[1, 0, 2]);
    }
    let (directions, reverse) = match call.text("direction", "forward").as_str() {
        "forward" => (1, false),
        "reverse" => (1, true),
        "bidirectional" => (2, false),
        other => return Err(OpError::Unsupported(format!("direction `{other}`"))),
    };
    let sizes = sizes(call, cell, &x, weights, directions)?;
    let activations = activation::all(call, directions, defaults)?;
    let clip = match call.attr("clip") {
        Some(Attr::Float(bound)) if *bound > 0.0 => Some(*bound),
        Some(Attr::Float(bound)) => return Err(OpError::mismatch("clip", "more than 0", *bound)),
        _ => None,
    };
    let inputs = inputs(call, cell, sizes, &x, weights, batch_first)?;
    let (forward, backward) = activations.split_at(defaults.len());
    let kind = |reverse: bool, activations: &[Expr]| {
        let activations = activations.to_vec();
        let stored = Expr::identity(Scalar::F32);
        Kind::Recurrent(Recurrent { cell, reverse, clip, activations, projection: None, stored })
    };
    let rows = sizes.steps + cell.further_rows() as usize;
    let mut shape = [rows, directions, sizes.batch, sizes.hidden];
    let whole = if directions == 1 || forward == backward {
        call.builder.emit(kind(reverse, forward), inputs, &shape, DType::F32)?
    } else {
        // A kernel has one set of activations: a node per direction.
        shape[1] = 1;
        let mut halves = Vec::with_capacity(2);
        for (at, activations) in [forward, backward].into_iter().enumerate() {
            let inputs = one_direction(call.builder, &inputs, at)?;
            let kind = kind(at == 1, activations);
            halves.push(call.builder.emit(kind, inputs, &shape, DType::F32)?);
        }
        call.builder.concat(&halves, 1)?
    };
    outputs(call.builder, &Builder::retyped(&whole, x.dtype), sizes.steps, cell, batch_first)
}

/// Takes the output of the kernel apart.
fn outputs(
    builder: &mut Builder,
    whole: &Operand,
    steps: usize,
    cell: Cell,
    batch_first: bool,
) -> Result<Vec<Operand>, OpError> {
    let mut all = builder.slice(whole, 0, 0, 1, steps)?;
    if batch_first {
        all = Builder::transpose(&all, &[2, 0, 1, 3]);
    }
    let mut outputs = vec![all];
    let states = if matches!(cell, Cell::Lstm { .. }) { 2 } else { 1 };
    for row in steps..steps + states {
        let state = builder.slice(whole, 0, row, 1, 1)?;
        let shape = whole.shape();
        let state = builder.reshape(&state, &shape[1..])?;
        outputs.push(if batch_first { Builder::transpose(&state, &[1, 0, 2]) } else { state });
    }
    Ok(outputs)
}

fn sizes(
    call: &Call<'_>,
    cell: Cell,
    x: &Operand,
    weights: &Weights,
    directions: usize,
) -> Result<Sizes, OpError> {
    let x = x.shape();
    let gates = cell.gates() as usize;
    let (w, r) = (weights.w.shape(), weights.r.shape());
    expect_rank("the recurrence weights", &r, 3)?;
    let hidden = r[2];
    let declared = call.int("hidden_size", i64::try_from(hidden).unwrap_or(0));
    if usize::try_from(declared) != Ok(hidden) {
        return Err(OpError::mismatch("hidden_size", hidden, declared));
    }
    let rows = gates.saturating_mul(hidden);
    let expected = [
        ("the weights", w, vec![directions, rows, x[2]]),
        ("the recurrence weights", r, vec![directions, rows, hidden]),
    ];
    for (what, given, expected) in expected {
        if given != expected {
            return Err(OpError::mismatch(what, Shape::from(expected), Shape::from(given)));
        }
    }
    Ok(Sizes { steps: x[0], batch: x[1], input: x[2], directions, gates, hidden })
}

/// The inputs of the kernel, in its order.
fn inputs(
    call: &mut Call<'_>,
    cell: Cell,
    sizes: Sizes,
    x: &Operand,
    weights: &Weights,
    batch_first: bool,
) -> Result<Vec<Operand>, OpError> {
    let Sizes { steps, batch, directions, gates, hidden, .. } = sizes;
    for operand in [x, &weights.w, &weights.r] {
        if operand.scalar() != Scalar::F32 {
            return Err(OpError::Type { what: "a weight".to_owned(), given: operand.dtype });
        }
    }
    let (bias, linear) = bias(call, cell, sizes)?;
    let projected = projected(call.builder, sizes, x, &weights.w, bias)?;
    let r = call.builder.reshape(&weights.r, &[directions, gates, hidden, hidden])?;
    let mut inputs = vec![projected, Builder::transpose(&r, &[0, 3, 2, 1])];
    if let (Cell::Lstm { peepholes: true, .. }, Some(given)) = (cell, &weights.peepholes) {
        expect_shape("input 7", given, &[directions, 3 * hidden])?;
        inputs.push(call.builder.reshape(given, &[directions, 3, hidden])?);
    }
    if matches!(cell, Cell::Gru { linear_before_reset: true }) {
        let zero = call.builder.float(0.0);
        let linear = linear.unwrap_or(zero);
        inputs.push(call.builder.expand(&linear, &[directions, hidden])?);
    }
    let states = if matches!(cell, Cell::Lstm { .. }) { 5..=6 } else { 5..=5 };
    for index in states {
        let shape = [directions, batch, hidden];
        inputs.push(match call.optional(index) {
            Some(given) => {
                let given =
                    if batch_first { turned(&given, &format!("input {index}"))? } else { given };
                expect_shape(&format!("input {index}"), &given, &shape)?;
                given
            }
            None => {
                let zero = call.builder.float(0.0);
                call.builder.expand(&zero, &shape)?
            }
        });
    }
    inputs.push(match call.optional(4) {
        Some(given) if given.scalar() != Scalar::I32 => {
            return Err(OpError::Type { what: "input 4".to_owned(), given: given.dtype });
        }
        Some(given) => {
            expect_shape("input 4", &given, &[batch])?;
            given
        }
        None => {
            let all = call.builder.ints(&[1], &[i64::from(super::narrow(steps)?)])?;
            call.builder.expand(&all, &[batch])?
        }
    });
    Ok(inputs)
}

/// `[batch, directions, hidden]` as `[directions, batch, hidden]`.
fn turned(state: &Operand, what: &str) -> Result<Operand, OpError> {
    expect_rank(what, &state.shape(), 3)?;
    Ok(Builder::transpose(state, &[1, 0, 2]))
}

fn expect_shape(what: &str, given: &Operand, expected: &[usize]) -> Result<(), OpError> {
    match given.shape() == expected {
        true => Ok(()),
        false => Err(OpError::mismatch(what, Shape::from(expected), Shape::from(given.shape()))),
    }
}

/// The bias of the projections `[directions * hidden * gates]`, and that of h inside the product
/// with the state `[directions, hidden]` of a GRU with `linear_before_reset`.
fn bias(
    call: &mut Call<'_>,
    cell: Cell,
    sizes: Sizes,
) -> Result<(Option<Operand>, Option<Operand>), OpError> {
    let Some(given) = call.optional(3) else { return Ok((None, None)) };
    let Sizes { directions, gates, hidden, .. } = sizes;
    expect_shape("input 3", &given, &[directions, 2 * gates * hidden])?;
    let builder = &mut *call.builder;
    let both = builder.reshape(&given, &[directions, 2, gates, hidden])?;
    let mut of_input = builder.slice(&both, 1, 0, 1, 1)?;
    let mut of_state = builder.slice(&both, 1, 1, 1, 1)?;
    let mut linear = None;
    if matches!(cell, Cell::Gru { linear_before_reset: true }) {
        let inside = builder.slice(&of_state, 2, 2, 1, 1)?;
        linear = Some(builder.reshape(&inside, &[directions, hidden])?);
        let outside = builder.slice(&of_state, 2, 0, 1, 2)?;
        let zero = builder.float(0.0);
        let zero = builder.expand(&zero, &[directions, 1, 1, hidden])?;
        of_state = builder.concat(&[outside, Builder::retyped(&zero, given.dtype)], 2)?;
    }
    for part in [&mut of_input, &mut of_state] {
        let turned = Builder::transpose(part, &[0, 1, 3, 2]);
        *part = builder.reshape(&turned, &[directions * hidden * gates])?;
    }
    let sum = Expr::binary(Binary::Add, Scalar::F32);
    Ok((Some(builder.pointwise(&sum, &[of_input, of_state], DType::F32)?), linear))
}

/// `x w + bias` of all steps and directions: `[steps, batch, directions, hidden, gates]`.
fn projected(
    builder: &mut Builder,
    sizes: Sizes,
    x: &Operand,
    w: &Operand,
    bias: Option<Operand>,
) -> Result<Operand, OpError> {
    let Sizes { steps, batch, input, directions, gates, hidden } = sizes;
    let columns = directions * hidden * gates;
    let w = builder.reshape(w, &[directions, gates, hidden, input])?;
    let w = Builder::transpose(&w, &[3, 0, 2, 1]);
    let w = builder.reshape(&w, &[1, 1, input, columns])?;
    let x = builder.reshape(x, &[1, 1, steps * batch, input])?;
    let kind = Kind::Gemm(Gemm { quantised: false, epilogue: Expr::identity(Scalar::F32) });
    let shape = [1, 1, steps * batch, columns];
    let mut result = builder.emit(kind, vec![x, w], &shape, DType::F32)?;
    if let Some(bias) = bias {
        let sum = Expr::binary(Binary::Add, Scalar::F32);
        result = builder.pointwise(&sum, &[result, bias], DType::F32)?;
    }
    builder.reshape(&result, &[steps, batch, directions, hidden, gates])
}

/// The inputs of the kernel for the direction `at` alone.
fn one_direction(
    builder: &mut Builder,
    inputs: &[Operand],
    at: usize,
) -> Result<Vec<Operand>, OpError> {
    let last = inputs.len() - 1;
    let part = |(index, input): (usize, &Operand)| match index {
        0 => builder.slice(input, 2, at, 1, 1),
        index if index == last => Ok(input.clone()),
        _ => builder.slice(input, 0, at, 1, 1),
    };
    inputs.iter().enumerate().map(part).collect()
}
