//! Whether the rows of a batch are independent: proved on the graph, not tried.
//!
//! The graph is built for two and for three rows. Every input begins with the axis of its rows;
//! node by node it is shown where the rows lie in what the node makes. A node that sums, sorts,
//! picks or walks along that axis, or that is not known to leave rows apart, ends the proof.
//!
//! A model may do another thing where there are more rows, or where rows are longer: it is built
//! for many rows too, and for long ones; with one its outputs must have an axis of rows all the
//! same. What it would compute at one number and at no other, such as at 17 rows, is not found.

use std::collections::BTreeMap;

use gw_shaders::kernel::Caps;
use gw_shaders::recurrent::Cell;
use gw_tensor::{Shape, Tensor};

use super::Model;
use crate::graph::Dim;
use crate::net::layout::rows::{Place, Rows};
use crate::net::{Kind, Net, Node, Operand, Output, Recurrent};
use crate::ops;

/// What is built does not depend on an adapter.
const CAPS: Caps = Caps::minimal();

/// More rows than are joined by default; a prime, so that nothing else of a model divides it.
const MANY: usize = 67;

/// How much longer a long row is, along each axis that is free: 512, where 32 were looked at.
const LONGER: usize = 16;

impl Model {
    /// Whether each row of the outputs depends on the same row of the inputs and on nothing else:
    /// neither on other rows nor on how many there are. `shapes` are those of one run, whose
    /// leading dimensions are the rows. It is `false` where this cannot be shown.
    pub fn rows_are_independent(&self, shapes: &BTreeMap<String, Shape>) -> bool {
        self.are_apart(shapes, Some(MANY)) == Some(true)
            && self.longer(shapes).is_none_or(|longer| self.are_apart(&longer, None) != Some(false))
    }

    /// Whether two rows, three and so many more are; `None` where the shapes do not fit the model.
    fn are_apart(&self, shapes: &BTreeMap<String, Shape>, more: Option<usize>) -> Option<bool> {
        let (two, three) = (self.with_rows(shapes, 2)?, self.with_rows(shapes, 3)?);
        // More than the model takes are never run.
        let many = more.and_then(|count| self.with_rows(shapes, count));
        let Some(lies) = two.apart() else { return Some(false) };
        let is_apart =
            |other: &Batch| other.apart().is_some() && is_alike(&two.net, &other.net, &lies);
        let is_row = |one: Batch| one.has_rows_of(&two);
        let is_row = self.with_rows(shapes, 1).is_some_and(is_row);
        Some(is_row && [three].iter().chain(&many).all(is_apart))
    }

    /// The shapes with long rows; `None` where no axis of a row is free.
    fn longer(&self, shapes: &BTreeMap<String, Shape>) -> Option<BTreeMap<String, Shape>> {
        let mut longer = shapes.clone();
        let mut is_longer = false;
        for input in &self.signature.inputs {
            let mut dims = longer.get(&input.name)?.to_vec();
            for (size, dim) in dims.iter_mut().zip(input.dims.iter().flatten()).skip(1) {
                if !matches!(dim, Dim::Fixed(_)) {
                    *size = size.checked_mul(LONGER)?;
                    is_longer = true;
                }
            }
            longer.insert(input.name.clone(), dims.into());
        }
        is_longer.then_some(longer)
    }

    /// The graph for inputs of these shapes. `None` where they do not fit the model, and where
    /// values of a run decide what it is.
    fn net(&self, shapes: &BTreeMap<String, Shape>) -> Option<Net> {
        let shapes = self.signature.input_shapes(&self.name, shapes).ok()?;
        let mut builder = self.declared(&shapes, &[], &CAPS).ok()?;
        let outputs = ops::build(&self.graph, &mut builder).ok()?;
        let mut net = builder.net;
        net.outputs = self.named(outputs);
        net.drop_unread();
        Some(net)
    }

    /// The graph for so many rows.
    fn with_rows(&self, shapes: &BTreeMap<String, Shape>, count: usize) -> Option<Batch> {
        let mut shapes = shapes.clone();
        for shape in shapes.values_mut() {
            let mut dims = shape.to_vec();
            *dims.first_mut()? = count;
            *shape = dims.into();
        }
        Some(Batch { net: self.net(&shapes)?, count })
    }
}

/// A graph whose inputs have `count` rows.
struct Batch {
    net: Net,
    count: usize,
}

/// How the rows lie in each tensor that depends on them.
type Lies = Vec<Option<Rows>>;

impl Batch {
    /// `None` where rows meet.
    fn apart(&self) -> Option<Lies> {
        let mut known = vec![None; self.net.tensors.len()];
        for input in &self.net.inputs {
            let stride = self.net.tensor(input.tensor).shape.elements() / self.count;
            known[input.tensor.0 as usize] = Some(Rows { count: self.count, stride });
            if stride == 0 {
                return None;
            }
        }
        // A part of a tensor may be written before another part shows where its rows lie.
        for node in self.net.nodes.iter().chain(&self.net.nodes).flatten() {
            self.follow(node, &mut known)?;
        }
        let is_by_rows = |output: &Output| self.is_by_rows(&output.operand, &known);
        self.net.outputs.iter().all(is_by_rows).then_some(known)
    }

    /// Notes where the rows of a node's result lie; `None` where they meet.
    fn follow(&self, node: &Node, known: &mut Lies) -> Option<()> {
        let mut place = None;
        for (index, input) in node.inputs.iter().enumerate() {
            let Some(rows) = known[input.tensor.0 as usize] else { continue };
            let inside = input.layout.place_of(rows)?;
            let axis = free_axis(node, index, inside.axis)?;
            let outside = Place { axis, ..inside };
            if place.is_some_and(|other| other != outside) {
                return None;
            }
            place = Some(outside);
        }
        let made = node.output.tensor.0 as usize;
        match (place, known[made]) {
            (None, None) => return Some(()),
            (None, Some(rows)) => place = Some(node.output.layout.place_of(rows)?),
            (Some(place), _) => {
                let stride = node.output.layout.step_at(place, self.count)?;
                let rows = Rows { count: self.count, stride };
                let fits = stride > 0 && node.output.layout.place_of(rows) == Some(place);
                if !fits || known[made].is_some_and(|other| other != rows) {
                    return None;
                }
                known[made] = Some(rows);
            }
        }
        let place = place?;
        let others = node.inputs.iter().enumerate();
        let mut others = others.filter(|(_, input)| known[input.tensor.0 as usize].is_none());
        others.all(|(index, input)| self.is_same(node, index, input, place)).then_some(())
    }

    /// Whether an input that no row decides is the same for each.
    fn is_same(&self, node: &Node, index: usize, input: &Operand, place: Place) -> bool {
        let shape = input.shape();
        let here = |&axis: &usize| free_axis(node, index, axis) == Some(place.axis);
        let Some(axis) = (0..shape.len()).find(here) else { return true };
        let inside = Place { axis, ..place };
        match input.layout.step_at(inside, self.count) {
            Some(0) => return true,
            None => return false,
            Some(_) => {}
        }
        let Some(data) = self.net.constant(input) else { return false };
        let inner: usize = shape[axis + 1..].iter().product();
        let row = place.each * inner * data.dtype().size();
        let is_whole = data.bytes().len() == data.elements() * data.dtype().size();
        let batches = data.bytes().chunks_exact((row * self.count).max(1));
        is_whole
            && row > 0
            && batches
                .into_iter()
                .all(|batch| batch.chunks_exact(row).all(|other| *other == batch[..row]))
    }

    /// Whether the outputs are as many rows as there are, each of the dimensions that it has in
    /// another batch: with one row a model may leave out the axis.
    fn has_rows_of(&self, other: &Self) -> bool {
        let mut outputs = self.net.outputs.iter().zip(&other.net.outputs);
        outputs.all(|(own, other)| match (&own.operand.shape()[..], &other.operand.shape()[..]) {
            ([count, row @ ..], [_, other @ ..]) => *count == self.count && row == other,
            _ => false,
        })
    }

    /// Whether an output is its rows, one after another.
    fn is_by_rows(&self, output: &Operand, known: &Lies) -> bool {
        let is_leading =
            |rows: Rows| output.layout.place_of(rows) == Some(Place { axis: 0, each: 1 });
        known[output.tensor.0 as usize].is_some_and(is_leading)
            && output.shape().first() == Some(&self.count)
    }
}

/// Whether two graphs do the same with the same constants, whatever their numbers of rows.
fn is_alike(a: &Net, b: &Net, lies: &Lies) -> bool {
    let is_alike = |(one, other): (&Node, &Node)| {
        let by_rows = lies[one.output.tensor.0 as usize].is_some();
        let mut inputs = one.inputs.iter().zip(&other.inputs);
        one.kind == other.kind
            && one.inputs.len() == other.inputs.len()
            && inputs.all(|(x, y)| match (constant(a, x), constant(b, y)) {
                // Values for each row were looked at where the rows were followed.
                (Some(x), Some(y)) if x.shape() != y.shape() => by_rows,
                (Some(x), Some(y)) => x.bytes() == y.bytes(),
                (x, y) => x.is_none() && y.is_none(),
            })
    };
    let (a_nodes, b_nodes) = (a.nodes.iter().flatten(), b.nodes.iter().flatten());
    a_nodes.clone().count() == b_nodes.clone().count() && a_nodes.zip(b_nodes).all(is_alike)
}

fn constant<'a>(net: &'a Net, operand: &Operand) -> Option<&'a Tensor> {
    net.tensor(operand.tensor).constant.as_ref()
}

/// The axis of a node's result that goes along with this axis of an input, where what lies at one
/// index of the two has no part in what lies at another. See [`Kind`] for the axes.
fn free_axis(node: &Node, input: usize, axis: usize) -> Option<usize> {
    let of = |axes: &[Option<usize>]| axes.get(axis).copied().flatten();
    let same = Some(axis);
    match &node.kind {
        Kind::Pointwise(_) => same,
        Kind::Gemm(gemm) => match input {
            0 => of(&[Some(0), Some(1), Some(2), None]),
            1 => of(&[Some(0), Some(1), None, Some(3)]),
            2 if gemm.quantised => of(&[Some(3)]),
            _ => same,
        },
        Kind::Dot(_) => match input {
            0 => of(&[None, None, Some(2), None]),
            1 => None,
            _ => same,
        },
        Kind::Blocks(_) => match input {
            0 => of(&[None, None, Some(2), None]),
            _ => None,
        },
        Kind::Attention(_) => free_in_attention(node, input, axis),
        Kind::Softmax { .. } | Kind::Scan { .. } => of(&[Some(0), None, Some(2)]),
        Kind::Sort { .. } => of(&[Some(0), None, Some(2)]),
        Kind::Norm(_) if input == 0 => of(&[Some(0), None]),
        Kind::Reduce(_) => of(&[Some(0), None, Some(1)]),
        Kind::Gather { quantised } => match input {
            0 => of(&[Some(0), None, Some(2)]),
            1 if *quantised => None,
            _ => of(&[Some(1)]),
        },
        Kind::Conv(conv) | Kind::ConvLast(conv) => match input {
            0 => of(&[Some(0)]),
            _ if input < conv.operands() => None,
            _ => same,
        },
        Kind::Pool { .. } if node.inputs[0].shape().len() == 5 => {
            of(&[Some(0), None, None, None, Some(4)])
        }
        Kind::Pool { .. } | Kind::Fold(_) | Kind::Det => of(&[Some(0)]),
        Kind::Resample if input == 0 => of(&[Some(0), None, Some(2)]),
        Kind::Lrn { .. } => of(&[Some(0), None, Some(2)]),
        Kind::Recurrent(recurrent) => free_in_recurrence(recurrent, node, input, axis),
        Kind::Scatter(_) => match input {
            0 | 3 => of(&[None, Some(1)]),
            _ => None,
        },
        Kind::Trees { .. } if input == 0 => of(&[Some(0), None]),
        Kind::Norm(_)
        | Kind::Normed(..)
        | Kind::Embed(_)
        | Kind::LinearAttention(_)
        | Kind::Resample
        | Kind::Sample { .. }
        | Kind::Roi { .. }
        | Kind::Trees { .. } => None,
    }
}

/// Each query has its own head and entry of the batch, and so have its keys where heads do not
/// share them.
fn free_in_attention(node: &Node, input: usize, axis: usize) -> Option<usize> {
    let heads = |input: usize| node.inputs[input].shape().get(1).copied();
    match axis {
        0 => Some(0),
        1 if heads(0) == heads(1) && node.inputs[input].shape().len() == 4 => Some(1),
        _ => None,
    }
}

/// Entries of the batch: behind the steps of x, behind the directions of states, alone in lengths.
fn free_in_recurrence(
    recurrent: &Recurrent,
    node: &Node,
    input: usize,
    axis: usize,
) -> Option<usize> {
    let states = if matches!(recurrent.cell, Cell::Lstm { .. }) { 2 } else { 1 };
    match (node.inputs.len() - input, axis) {
        _ if recurrent.projection.is_some() => None,
        (1, 0) => Some(2),
        (2.., 1) if node.inputs.len() - input <= 1 + states => Some(2),
        (_, 1) if input == 0 => Some(2),
        (_, 2) if input == 0 => Some(1),
        _ => None,
    }
}
