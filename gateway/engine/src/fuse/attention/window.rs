//! A mask that is written out of positions becomes a window: the attention reads no mask then, and
//! passes over the keys that no query of a tile sees.
//!
//! Positions are constants of a plan, so the values of a mask tell, however it was written. Only
//! what hides a key for good is taken: beside a low number that other masks add too, a query that
//! sees nothing would have another mean.

use gw_shaders::attention::Window;
use gw_shaders::expr::{Binary, Expr, Instr, Value};
use gw_shaders::kernel::Scalar;

use super::{HIDES, masked, without_repeats};
use crate::fuse::{Rules, Uses, expr, fits_kernel, replace};
use crate::net::fold::{self, Number};
use crate::net::formula::{rename, tidied};
use crate::net::layout::Layout;
use crate::net::{Attention, Kind, MaskKind, Net, Node, Operand};

pub(in crate::fuse) fn apply(net: &mut Net, rules: &Rules<'_>) {
    let mut uses = Uses::of(net);
    // The layers of a model share their mask.
    let mut known = Vec::new();
    for index in 0..net.nodes.len() {
        let node = without_mask(net, &mut known, index);
        if let Some(node) = node.filter(|node| fits_kernel(net, node, rules)) {
            replace(net, &mut uses, index, node, None);
        }
    }
    for index in 0..net.nodes.len() {
        if let Some(split) = split(net, &uses, index) {
            put(net, &mut uses, index, split, rules);
        }
    }
}

/// The window that a constant mask is, and whether that hides keys for good.
type Whole = (Operand, Option<(Window, bool)>);

/// The attention at `index` without its mask, where that is a window.
fn without_mask(net: &Net, known: &mut Vec<Whole>, index: usize) -> Option<Node> {
    let (node, attention) = masked(net, index)?;
    let mask = &node.inputs[3];
    if attention.mask_expr.is_some() || !net.is_constant(mask) {
        return None;
    }
    let found = match known.iter().find(|(operand, _)| operand == mask) {
        Some((_, found)) => *found,
        None => {
            let found = whole(net, mask);
            known.push((mask.clone(), found));
            found
        }
    };
    let (window, for_good) = found?;
    let is_all = attention.window == Window::ALL && attention.counts.is_none();
    if !for_good && !is_all {
        return None;
    }
    let mut inputs = node.inputs.clone();
    inputs.remove(3);
    let window = attention.window.and(window);
    let kind = Attention { mask: MaskKind::None, window, ..attention.clone() };
    Some(Node { kind: Kind::Attention(kind), inputs, ..node.clone() })
}

fn whole(net: &Net, mask: &Operand) -> Option<(Window, bool)> {
    let (mut seen, mut for_good) = (Vec::new(), true);
    cells(net, mask, |cell| {
        seen.push(match (mask.scalar(), cell.float()) {
            (Scalar::U32, _) => cell.is_true(),
            (Scalar::F32, 0.0) => true,
            (Scalar::F32, low) if low <= HIDES => {
                for_good &= low == f64::NEG_INFINITY;
                false
            }
            _ => return None,
        });
        Some(())
    })?;
    Some((window(&seen, mask.shape()[3])?, for_good))
}

/// Tells `each` what a constant mask `[batch, heads, queries, keys]` says of all queries and keys,
/// until it has enough; `None` also where heads differ.
fn cells(net: &Net, mask: &Operand, mut each: impl FnMut(Number) -> Option<()>) -> Option<()> {
    if mask.layout.strides()?[..2] != [0, 0] {
        return None;
    }
    let one = mask.layout.sliced(0, 0, 1, 1)?.sliced(1, 0, 1, 1)?;
    // Row by row, because numbers are wider than what they stand for.
    (0..mask.shape()[2]).try_for_each(|query| {
        let row = mask.with_layout(one.sliced(2, query, 1, 1)?);
        fold::numbers(&net.constant(&row)?).into_iter().try_for_each(&mut each)
    })
}

/// The window that lets through what `seen [queries, keys]` says. Every query sees some key.
fn window(seen: &[bool], keys: usize) -> Option<Window> {
    let from =
        |query: usize, key: usize| i32::try_from(key).ok()?.checked_sub(i32::try_from(query).ok()?);
    let mut window = Window::ALL;
    for (query, row) in seen.chunks_exact(keys).enumerate() {
        let first = row.iter().position(|&seen| seen)?;
        let last = row.iter().rposition(|&seen| seen)?;
        // An end of the keys says no more than that a bound is not nearer.
        if first > 0 && window.first.is_none() {
            window.first = Some(from(query, first)?);
        }
        if last + 1 < keys && window.last.is_none() {
            window.last = Some(from(query, last)?);
        }
    }
    let count = u32::try_from(keys).ok()?;
    let holds = (0..).zip(seen.chunks_exact(keys)).all(|(query, row)| {
        let through = window.keys_of(query, count);
        (0..).zip(row).all(|(key, &seen)| through.contains(&key) == seen)
    });
    holds.then_some(window)
}

/// A mask without the window that was a part of it.
struct Split {
    window: Window,
    /// What is left of the expression, and its inputs over all scores.
    rest: Expr,
    inputs: Vec<Operand>,
    /// The attentions that read it.
    readers: Vec<usize>,
}

fn split(net: &Net, uses: &Uses, index: usize) -> Option<Split> {
    let node = net.nodes[index].as_ref()?;
    let expr = expr(node)?;
    let readers = uses.readers[node.output.tensor.0 as usize].clone();
    let (first, _) = masked(net, *readers.first()?)?;
    let mask = &first.inputs[3];
    let alike = readers.iter().all(|&reader| {
        masked(net, reader).is_some_and(|(reader, attention)| {
            attention.mask_expr.is_none() && reader.inputs[3] == *mask
        })
    });
    let output = &node.output;
    let is_plain = mask.tensor == output.tensor && mask.scalar() == output.scalar();
    if !alike || !is_plain || uses.is_output[output.tensor.0 as usize] {
        return None;
    }
    let seen_by_attention = |input: &Operand| {
        let layout = mask.layout.over(&input.layout)?;
        Some(input.with_layout(layout))
    };
    let (place, shown, window) = (0..node.inputs.len()).find_map(|place| {
        let grid = &node.inputs[place];
        if !net.is_constant(grid) {
            return None;
        }
        let (shown, window) = part(net, &seen_by_attention(grid)?, expr, place)?;
        Some((place, shown, window))
    })?;
    let others = || (0..node.inputs.len()).filter(|&other| other != place);
    let map: Vec<Result<usize, f64>> = (0..node.inputs.len())
        .map(|input| match input {
            input if input == place => Err(shown.float()),
            input => Ok(input - usize::from(input > place)),
        })
        .collect();
    let scalars = others().map(|input| expr.inputs[input]).collect();
    let inputs = others().map(|input| seen_by_attention(&node.inputs[input]));
    let inputs = inputs.collect::<Option<Vec<_>>>()?;
    Some(Split { window, rest: tidied(&rename(expr, scalars, &map)), inputs, readers })
}

/// The window that input `place` of a mask's expression is, where one of its two values hides a
/// key whatever the other inputs are; and its other value.
fn part(net: &Net, grid: &Operand, expr: &Expr, place: usize) -> Option<(Number, Window)> {
    let mut values: Vec<Number> = Vec::new();
    let mut is_first = Vec::new();
    cells(net, grid, |cell| {
        if !values.contains(&cell) {
            values.push(cell);
        }
        is_first.push(cell == values[0]);
        (values.len() <= 2).then_some(())
    })?;
    let &[one, two] = values.as_slice() else { return None };
    let hides = |number: Number| {
        let value = Value::new(expr.inputs[place], number.float());
        let result = result(expr, place, value);
        matches!(result, Some(Value::U32(0) | Value::F32(f32::NEG_INFINITY)))
    };
    let shown = match (hides(one), hides(two)) {
        (false, true) => one,
        (true, false) => two,
        _ => return None,
    };
    let seen: Vec<bool> = is_first.iter().map(|&is_first| is_first == (shown == one)).collect();
    Some((shown, window(&seen, grid.shape()[3])?))
}

/// The result of `expr` where it follows from one input alone.
fn result(expr: &Expr, place: usize, value: Value) -> Option<Value> {
    let mut registers = vec![None; expr.inputs.len()];
    registers[place] = Some(value);
    for instr in &expr.instrs {
        let value = match *instr {
            Instr::Const(scalar, value) => Some(Value::new(scalar, value)),
            Instr::Unary(op, a) => registers[a].map(|a| alone(Instr::Unary(op, 0), &[a])),
            Instr::Cast(to, a) => registers[a].map(|a| alone(Instr::Cast(to, 0), &[a])),
            Instr::Binary(op, a, b) => match (op, registers[a], registers[b]) {
                (_, Some(a), Some(b)) => Some(alone(Instr::Binary(op, 0, 1), &[a, b])),
                (Binary::And, Some(one), None) | (Binary::And, None, Some(one))
                    if one == Value::U32(0) =>
                {
                    Some(one)
                }
                // Masks add finite numbers or this.
                (Binary::Add, Some(one), None) | (Binary::Add, None, Some(one))
                    if one == Value::F32(f32::NEG_INFINITY) =>
                {
                    Some(one)
                }
                _ => None,
            },
            Instr::Select(condition, a, b) => registers[condition].and_then(|condition| {
                let is_true = alone(Instr::Cast(Scalar::U32, 0), &[condition]) != Value::U32(0);
                registers[if is_true { a } else { b }]
            }),
        };
        registers.push(value);
    }
    registers[expr.output]
}

/// One instruction on the first values.
fn alone(instr: Instr, values: &[Value]) -> Value {
    let scalar = |value: &Value| match value {
        Value::F32(_) => Scalar::F32,
        Value::I32(_) => Scalar::I32,
        Value::U32(_) => Scalar::U32,
    };
    let mut expr = Expr::new(values.iter().map(scalar).collect());
    expr.push(instr);
    expr.eval(values)
}

/// Lets the node at `index` make what is left of the mask, over no more than differs.
fn put(net: &mut Net, uses: &mut Uses, index: usize, split: Split, rules: &Rules<'_>) {
    let Some(old) = net.nodes[index].clone() else { return };
    let layouts: Vec<_> = split.inputs.iter().map(|input| input.layout.clone()).collect();
    let (small, full) = without_repeats(&layouts);
    let Some(shape) = small.first().map(Layout::shape) else { return };
    let inputs = split.inputs.iter().zip(small).map(|(input, layout)| input.with_layout(layout));
    let inputs = inputs.collect();
    let name = net.tensor(old.output.tensor).name.clone();
    let output = net.add(name, old.output.dtype, shape, None);
    let mask = output.with_layout(output.layout.expanded(&full));
    let mut readers = Vec::with_capacity(split.readers.len());
    for &reader in &split.readers {
        let Some((node, attention)) = masked(net, reader) else { return };
        let window = attention.window.and(split.window);
        let kind = Kind::Attention(Attention { window, ..attention.clone() });
        let mut node = Node { kind, ..node.clone() };
        let dtype = node.inputs[3].dtype;
        node.inputs[3] = Operand { dtype, ..mask.clone() };
        if !fits_kernel(net, &node, rules) {
            return;
        }
        readers.push((reader, node));
    }
    let kind = Kind::Pointwise(split.rest);
    replace(net, uses, index, Node { names: old.names, kind, inputs, output }, None);
    for (reader, node) in readers {
        replace(net, uses, reader, node, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(queries: i32, keys: i32, sees: impl Fn(i32) -> bool) -> Vec<bool> {
        let cells = (0..queries).flat_map(|query| (0..keys).map(move |key| key - query));
        cells.map(sees).collect()
    }

    #[test]
    fn a_window_is_told_by_the_keys_that_it_shows() {
        let found = |seen: &[bool], keys| window(seen, keys).map(|found| [found.first, found.last]);
        assert_eq!(found(&grid(4, 4, |_| true), 4), Some([None, None]));
        assert_eq!(found(&grid(4, 4, |at| at <= 0), 4), Some([None, Some(0)]));
        assert_eq!(found(&grid(4, 6, |at| at <= 2), 6), Some([None, Some(2)]));
        assert_eq!(found(&grid(5, 5, |at| (-1..=0).contains(&at)), 5), Some([Some(-1), Some(0)]));
        assert_eq!(found(&grid(2, 9, |at| (3..=6).contains(&at)), 9), Some([Some(3), Some(6)]));
        // A hole, a row that sees nothing, and blocks beside each other.
        assert_eq!(found(&grid(4, 4, |at| at != 0), 4), None);
        assert_eq!(found(&grid(4, 4, |at| at < 0), 4), None);
        let blocks: Vec<bool> = (0..16).map(|at| at / 8 == at % 4 / 2).collect();
        assert_eq!(found(&blocks, 4), None);
    }

    #[test]
    fn a_result_follows_from_one_input_where_the_others_do_not_matter() {
        // `select(shown & mask, 0, -inf)`, then a bias.
        let mut expr = Expr::new(vec![Scalar::U32, Scalar::U32, Scalar::F32]);
        let both = expr.push(Instr::Binary(Binary::And, 0, 1));
        let zero = expr.constant(Scalar::F32, 0.0);
        let low = expr.constant(Scalar::F32, f64::NEG_INFINITY);
        let masked = expr.push(Instr::Select(both, zero, low));
        expr.push(Instr::Binary(Binary::Add, masked, 2));
        let hidden = Some(Value::F32(f32::NEG_INFINITY));
        assert_eq!(result(&expr, 0, Value::U32(0)), hidden);
        assert_eq!(result(&expr, 1, Value::U32(0)), hidden);
        assert_eq!(result(&expr, 0, Value::U32(1)), None);
        assert_eq!(result(&expr, 2, Value::F32(1.0)), None);
    }
}
