//! Graphs inside graphs. What a run decides is asked of the run, so that each becomes a plain
//! part of the graph around it: a branch is put in its place, a loop is written out.

use gw_tensor::{DType, Tensor};

use super::{Call, DEPTH_MAX, Table, axis, build};
use crate::error::OpError;
use crate::graph::{Attr, Dim, Graph};
use crate::net::Operand;
use crate::net::builder::Builder;

pub(super) const OPS: Table =
    &[("If", branch), ("Loop", repeat), ("Scan", scan), ("gw.Call", call_function)];

/// Rounds of one loop, at most: more would not fit a plan.
const ROUNDS_MAX: i64 = 1 << 16;

fn graph<'a>(call: &Call<'a>, name: &str) -> Result<&'a Graph, OpError> {
    match call.attr(name) {
        Some(Attr::Graph(graph)) => Ok(graph),
        _ => Err(OpError::Missing(format!("attribute `{name}`"))),
    }
}

/// Builds `graph`, which also sees the values around it, with `inputs` as its own.
pub(super) fn inline(
    builder: &mut Builder,
    graph: &Graph,
    inputs: &[Operand],
) -> Result<Vec<Operand>, OpError> {
    if builder.scopes.len() > DEPTH_MAX {
        return Err(OpError::Unsupported(format!("more than {DEPTH_MAX} graphs in graphs")));
    }
    if graph.inputs.len() != inputs.len() {
        let expected = format!("{} inputs of the inner graph", inputs.len());
        return Err(OpError::mismatch("body", expected, graph.inputs.len()));
    }
    let names = graph.inputs.iter().map(|&id| graph.value(id).name.clone());
    builder.scopes.push(names.zip(inputs.iter().cloned()).collect());
    let outer = builder.node.clone();
    let outputs = build(graph, builder).map_err(|stopped| OpError::Inner {
        node: stopped.node,
        op: stopped.op,
        reason: Box::new(stopped.error),
    });
    builder.node = outer;
    builder.scopes.pop();
    outputs
}

/// The branch that the condition names.
fn branch(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let condition = call.known_ints(0)?;
    let taken = condition.first().is_some_and(|&value| value != 0);
    let graph = graph(call, if taken { "then_branch" } else { "else_branch" })?;
    inline(call.builder, graph, &[])
}

/// A function of the model sees its inputs and nothing else. Inputs at the end may be left out.
fn call_function(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let graph = graph(call, "body")?;
    let names = graph.inputs.iter().map(|&id| graph.value(id).name.clone());
    let given =
        names.zip(&call.inputs).filter_map(|(name, operand)| Some((name, operand.clone()?)));
    let scope = given.collect();
    // The values around the call are hidden while the body is built.
    let around =
        std::mem::replace(&mut call.builder.scopes, vec![std::collections::HashMap::new()]);
    call.builder.scopes.push(scope);
    let outer = call.builder.node.clone();
    let outputs = build(graph, call.builder).map_err(|stopped| OpError::Inner {
        node: stopped.node,
        op: stopped.op,
        reason: Box::new(stopped.error),
    });
    call.builder.node = outer;
    call.builder.scopes = around;
    outputs
}

fn repeat(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let body = graph(call, "body")?;
    let rounds = call.optional_ints(0)?.map(|rounds| rounds.first().copied().unwrap_or(0));
    let mut goes_on = match call.optional_ints(1)? {
        Some(condition) => condition.first().is_some_and(|&value| value != 0),
        None => true,
    };
    let mut state =
        (2..call.inputs.len()).map(|index| call.input(index)).collect::<Result<Vec<_>, _>>()?;
    let kept = body.outputs.len().checked_sub(1 + state.len());
    let kept = kept.ok_or_else(|| {
        OpError::mismatch("body", format!("{} outputs", 1 + state.len()), body.outputs.len())
    })?;
    let mut collected = vec![Vec::new(); kept];
    let mut round = 0;
    while goes_on && rounds.is_none_or(|rounds| round < rounds) {
        if round >= ROUNDS_MAX {
            return Err(OpError::Unsupported(format!("more than {ROUNDS_MAX} rounds of a loop")));
        }
        let index = call.builder.ints(&[], &[round])?;
        let scalar: &[usize] = &[];
        let go = call.builder.constant(Tensor::new(DType::Bool, scalar, vec![1u8])?);
        let inputs: Vec<Operand> = [index, go].into_iter().chain(state.iter().cloned()).collect();
        let mut outputs = inline(call.builder, body, &inputs)?;
        for (list, output) in collected.iter_mut().zip(outputs.split_off(1 + state.len())) {
            list.push(output);
        }
        state = outputs.split_off(1);
        round += 1;
        // Whether it goes on may be known only to the run: not asked where it ends anyway.
        if rounds.is_none_or(|rounds| round < rounds) {
            let condition = call.builder.int_data(&outputs[0], "the condition of the loop")?;
            goes_on = condition.first().is_some_and(|&value| value != 0);
        }
    }
    for (list, &id) in collected.iter().zip(&body.outputs[body.outputs.len() - kept..]) {
        let output = stacked(call.builder, list, 0, || declared(body, id))?;
        state.push(output);
    }
    Ok(state)
}

/// The shape and type that the inner graph declares of an output, for loops without a round.
fn declared(graph: &Graph, id: crate::graph::ValueId) -> (Vec<usize>, DType) {
    let value = graph.value(id);
    let size = |dim: &Dim| if let Dim::Fixed(size) = dim { *size } else { 0 };
    let dims = value.dims.iter().flatten().map(size).collect();
    (dims, value.dtype.unwrap_or(DType::F32))
}

/// The operands side by side along a new axis.
fn stacked(
    builder: &mut Builder,
    parts: &[Operand],
    at: i64,
    empty: impl FnOnce() -> (Vec<usize>, DType),
) -> Result<Operand, OpError> {
    let Some(first) = parts.first() else {
        let (mut shape, dtype) = empty();
        shape.insert(axis(at, shape.len() + 1)?, 0);
        return builder.empty(&shape, dtype);
    };
    let at = axis(at, first.shape().len() + 1)?;
    let mut thin = Vec::with_capacity(parts.len());
    for part in parts {
        if part.shape() != first.shape() || part.dtype != first.dtype {
            return Err(OpError::mismatch(
                "an output of the inner graph",
                format!("{} {:?} in every round", first.dtype, first.shape()),
                format!("{} {:?}", part.dtype, part.shape()),
            ));
        }
        let mut shape = part.shape();
        shape.insert(at, 1);
        thin.push(builder.reshape(part, &shape)?);
    }
    builder.concat(&thin, at)
}

/// One input or output of a scan that has a value per round.
#[derive(Clone, Copy)]
struct Swept {
    axis: i64,
    reversed: bool,
}

/// The attributes of a scan about `count` values.
fn swept(call: &Call<'_>, count: usize, axes: &str, directions: &str) -> Vec<Swept> {
    let (axes, directions) = (call.ints(axes), call.ints(directions));
    let at = |list: &Option<Vec<i64>>, index: usize| {
        list.as_ref().and_then(|list| list.get(index)).copied().unwrap_or(0)
    };
    let swept = |index| Swept { axis: at(&axes, index), reversed: at(&directions, index) != 0 };
    (0..count).map(swept).collect()
}

/// Before operator set 9 there was a batch, whose entries are scanned one by one.
fn scan(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let body = graph(call, "body")?;
    let count = usize::try_from(call.int("num_scan_inputs", 0)).unwrap_or(0);
    let first = usize::from(call.opset < 9);
    let mut state =
        (first..call.inputs.len()).map(|index| call.input(index)).collect::<Result<Vec<_>, _>>()?;
    let is_valid = count > 0 && count <= state.len();
    if !is_valid || body.outputs.len() < state.len() - count {
        return Err(OpError::mismatch("num_scan_inputs", "one of the inputs at least", count));
    }
    let inputs = state.split_off(state.len() - count);
    let kept = body.outputs.len() - state.len();
    if call.opset >= 9 {
        let into = swept(call, count, "scan_input_axes", "scan_input_directions");
        let out = swept(call, kept, "scan_output_axes", "scan_output_directions");
        return sweep(call.builder, body, state, &inputs, &into, &out);
    }
    if call.optional(0).is_some() {
        return Err(OpError::Unsupported("sequences of different lengths".to_owned()));
    }
    let into = swept(call, count, "", "directions");
    let out = swept(call, kept, "", "");
    let batch = inputs[0].shape().first().copied().unwrap_or(0);
    let mut results = vec![Vec::new(); body.outputs.len()];
    for entry in 0..batch {
        let state = entries(call.builder, &state, entry)?;
        let inputs = entries(call.builder, &inputs, entry)?;
        let outputs = sweep(call.builder, body, state, &inputs, &into, &out)?;
        for (list, output) in results.iter_mut().zip(outputs) {
            list.push(output);
        }
    }
    let outputs = results.iter().zip(&body.outputs);
    outputs.map(|(list, &id)| stacked(call.builder, list, 0, || declared(body, id))).collect()
}

/// Entry `index` of the first axis of each, without the axis.
fn entries(
    builder: &mut Builder,
    operands: &[Operand],
    index: usize,
) -> Result<Vec<Operand>, OpError> {
    operands.iter().map(|operand| entry(builder, operand, 0, index)).collect()
}

fn entry(builder: &mut Builder, x: &Operand, at: usize, index: usize) -> Result<Operand, OpError> {
    let mut shape = x.shape();
    if shape.get(at).is_none_or(|&size| index >= size) {
        return Err(OpError::mismatch("a scanned input", "the same length everywhere", index));
    }
    shape.remove(at);
    let thin = builder.slice(x, at, index, 1, 1)?;
    builder.reshape(&thin, &shape)
}

fn sweep(
    builder: &mut Builder,
    body: &Graph,
    mut state: Vec<Operand>,
    inputs: &[Operand],
    into: &[Swept],
    out: &[Swept],
) -> Result<Vec<Operand>, OpError> {
    let axes = inputs.iter().zip(into).map(|(input, swept)| axis(swept.axis, input.shape().len()));
    let axes = axes.collect::<Result<Vec<_>, _>>()?;
    let rounds = inputs[0].shape()[axes[0]];
    if i64::try_from(rounds).unwrap_or(i64::MAX) > ROUNDS_MAX {
        return Err(OpError::Unsupported(format!("more than {ROUNDS_MAX} rounds of a scan")));
    }
    let mut collected = vec![Vec::new(); out.len()];
    for round in 0..rounds {
        let mut given = state.clone();
        for ((input, swept), &at) in inputs.iter().zip(into).zip(&axes) {
            let index = if swept.reversed { rounds - 1 - round } else { round };
            given.push(entry(builder, input, at, index)?);
        }
        let mut outputs = inline(builder, body, &given)?;
        for (list, output) in collected.iter_mut().zip(outputs.split_off(state.len())) {
            list.push(output);
        }
        state = outputs;
    }
    let ids = &body.outputs[state.len()..];
    for ((mut list, swept), &id) in collected.into_iter().zip(out).zip(ids) {
        if swept.reversed {
            list.reverse();
        }
        let output = stacked(builder, &list, swept.axis, || declared(body, id))?;
        state.push(output);
    }
    Ok(state)
}
