//! `h[t] = cell(x[t] + h[t - 1] * r, …)`, step by step.
//!
//! The products of all inputs with their weights come before, as one matrix product, or inside,
//! where there are few steps. A workgroup per batch entry and direction walks the steps: its
//! invocations share the state, each computes the next value of some units. Sums are f32, in the
//! order of k. Source: `LSTM`, `GRU`, `RNN` (ONNX 22).

mod cell;
mod state;
mod walk;

pub use walk::reference;

use crate::compose::Composer;
use crate::expr::Expr;
use crate::kernel::{Caps, Dispatch, LOOP_TURNS_MAX, Needs, Scalar, Unsupported};

const NAME: &str = "recurrent";

/// Which recurrence; `i, o, f, c, z, r, h` are the gates as ONNX names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// `h = f(x + h r)`.
    Rnn,
    /// `z, r = f(…)`, `h = (1 - z) g(…) + z h`.
    Gru {
        /// The reset gate acts on the product of the state, not on the state.
        linear_before_reset: bool,
    },
    /// `c = f(f) c + f(i) g(c)`, `h = f(o) h(c)`.
    Lstm {
        /// The gates see the cell.
        peepholes: bool,
        /// The forget gate is one less the input gate.
        input_forget: bool,
    },
}

impl Cell {
    /// Gates of one unit.
    pub const fn gates(self) -> u32 {
        match self {
            Self::Rnn => 1,
            Self::Gru { .. } => 3,
            Self::Lstm { .. } => 4,
        }
    }

    /// Rows of the output behind those of the steps: the last state; of an LSTM the last cell; of
    /// a GRU two for what a step computes on the way, zero afterwards.
    pub const fn further_rows(self) -> u32 {
        match self {
            Self::Rnn => 1,
            Self::Lstm { .. } => 2,
            Self::Gru { .. } => 3,
        }
    }

    /// How many activations the cell has: f, then g, then h.
    pub const fn activations(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru { .. } => 2,
            Self::Lstm { .. } => 3,
        }
    }
}

/// The product of x with its weights, inside the kernel: every step reads all of them, as it does
/// those of the state, which pays where there are few steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Projection {
    /// Columns of x.
    pub width: u32,
    /// There is a bias.
    pub bias: bool,
}

/// What to compute.
///
/// Bindings: x `[steps, batch, directions, hidden, gates]`, with the biases, or with a projection
/// x `[steps, batch, width]`, its weights `[width, directions, hidden, gates]` and the bias
/// `[directions, hidden, gates]` (where there is one); r
/// `[directions, hidden of the old state, hidden, gates]`; the peepholes `[directions, 3, hidden]`
/// of i, o, f (where there are some) or the bias of h in the product with the state
/// `[directions, hidden]` (of a GRU with `linear_before_reset`); the first state
/// `[directions, batch, hidden]`; the first cell (the same, of an LSTM); lengths `[batch]` (`I32`,
/// held within 0 and the steps); the output `[steps + further rows, directions, batch, hidden]`,
/// zero beyond the length of an entry, whose last state and cell are zero where it has no step.
/// Gates lie in ONNX's order: i, o, f, c of an LSTM, z, r, h of a GRU.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Which recurrence.
    pub cell: Cell,
    /// Steps.
    pub steps: u32,
    /// Batch entries.
    pub batch: u32,
    /// One or two; the second walks from the last step to the first.
    pub directions: u32,
    /// The one direction walks from the last step to the first.
    pub reverse: bool,
    /// Units.
    pub hidden: u32,
    /// The input of f and g is held within plus and minus this.
    pub clip: Option<f32>,
    /// f, g, h as far as the cell has them: from one float to one.
    pub activations: Vec<Expr>,
    /// Where the first state and the first cell begin in their buffers.
    pub begins: [u32; 2],
    /// x comes before its product with the weights.
    pub projection: Option<Projection>,
    /// What the rows of the steps hold of each state, zeros of a missing one too: from one float
    /// to one. The last state stays as it is.
    pub stored: Expr,
    /// The steps of this dispatch, from the first to before the last. Several dispatches one after
    /// another, each of at most [`steps_at_once`], walk a long sequence in the same output.
    pub part: [u32; 2],
}

/// Steps that one dispatch may take: at least one.
///
/// # Errors
/// Where the loops of a single step are too long.
pub fn steps_at_once(
    cell: Cell,
    hidden: u32,
    projection: Option<Projection>,
) -> Result<u32, Unsupported> {
    let units = u64::from(hidden.div_ceil(lanes(hidden)));
    // Eight of k in a turn, then the rest, one by one. Measured on llvmpipe: a loop takes one turn
    // more than it has rounds, an innermost one two.
    let turns = |count: u32| u64::from(count / 8 + count % 8) + 4;
    let product = turns(hidden) + projection.map_or(0, |projection| turns(projection.width));
    let passes = if has_resets(cell) { 2 } else { 1 };
    let step = 1 + passes * (units * (product + 1) + 1) + units + 1;
    let around = 2 * (units + 1);
    match LOOP_TURNS_MAX.saturating_sub(around) / step {
        0 => Err(Unsupported::new(NAME, format!("a state of {hidden} units"))),
        steps => Ok(u32::try_from(steps).unwrap_or(u32::MAX)),
    }
}

/// Invocations of a workgroup.
fn lanes(hidden: u32) -> u32 {
    [64, 128].into_iter().find(|&lanes| lanes >= hidden).unwrap_or(256)
}

/// Units whose state fits workgroup memory by what is reserved for it: few sizes, few pipelines.
const STATES: [u32; 4] = [256, 1024, 2048, 4096];

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let unsupported = |reason: String| Err(Unsupported::new(NAME, reason));
    if spec.activations.len() != spec.cell.activations() {
        return unsupported(format!("{} activations", spec.activations.len()));
    }
    if !matches!(spec.directions, 1 | 2) {
        return unsupported(format!("{} directions", spec.directions));
    }
    let [first, end] = spec.part;
    if end.saturating_sub(first) > steps_at_once(spec.cell, spec.hidden, spec.projection)? {
        return unsupported(format!("{} steps at once", end - first));
    }
    let rows = u64::from(spec.steps) + u64::from(spec.cell.further_rows());
    let states = u64::from(spec.batch) * u64::from(spec.directions) * u64::from(spec.hidden);
    let weights = u64::from(spec.hidden) * u64::from(spec.hidden) * u64::from(spec.directions);
    let gates = u64::from(spec.cell.gates());
    let width = u64::from(spec.projection.map_or(0, |projection| projection.width));
    let columns = u64::from(spec.hidden) * u64::from(spec.directions) * gates;
    let projected = [
        width.saturating_mul(columns),
        width.saturating_mul(u64::from(spec.steps) * u64::from(spec.batch)),
    ];
    let own = [rows.saturating_mul(states).saturating_mul(gates), weights * gates];
    for elements in own.into_iter().chain(projected) {
        if elements > u64::from(u32::MAX) {
            return unsupported(format!("{elements} elements are too many"));
        }
    }
    let vectors = if has_resets(spec.cell) { 2 } else { 1 };
    let fits = STATES.into_iter().find(|&size| size >= spec.hidden);
    let shared = fits.filter(|size| size * 4 * vectors <= caps.workgroup_bytes);
    let mut found = Vec::new();
    for memory in [shared, None] {
        let memory = memory.map(|size| (size, size * 4 * vectors));
        let dispatch = compose(spec, memory, caps)?;
        if !found.contains(&dispatch) {
            found.push(dispatch);
        }
    }
    Ok(found)
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

/// Whether a step has two products, one after another.
const fn has_resets(cell: Cell) -> bool {
    matches!(cell, Cell::Gru { linear_before_reset: false })
}

/// `memory`: the units for which workgroup memory is reserved, and its bytes.
fn compose(spec: &Spec, memory: Option<(u32, u32)>, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let place = if memory.is_some() { "state shared" } else { "state in the result" };
    let mut composer = Composer::new(NAME, format!("{} {place}", cell::name(spec.cell)));
    composer.source(include_str!("recurrent.wgsl")).source(include_str!("recurrent/cell.wgsl"));
    composer.source(include_str!("recurrent/state.wgsl"));
    composer.u32("steps", spec.steps).u32("batch", spec.batch).u32("hidden", spec.hidden);
    composer.u32("directions", spec.directions).u32("reverse", spec.reverse.into());
    composer.u32("first", spec.part[0]).u32("end", spec.part[1].min(spec.steps));
    state::readers(&mut composer, spec);
    cell::hooks(&mut composer, spec.cell);
    composer.u32("state_at", spec.begins[0]).read("first_state", "f32");
    if matches!(spec.cell, Cell::Lstm { .. }) {
        composer.u32("cell_at", spec.begins[1]);
        composer.read("first_cell", "f32").hook("begin_cell", "begin_cell_given");
        composer.hook("end_cell", "end_cell_given");
    } else {
        composer.hook("begin_cell", "begin_cell_none");
        let clears = matches!(spec.cell, Cell::Gru { .. });
        composer.hook("end_cell", if clears { "end_cell_clear" } else { "end_cell_none" });
    }
    composer.read("lengths", "i32").write("result", "f32");
    match spec.clip {
        Some(bound) => composer.f32("bound", bound).hook("clipped", "clipped_to_bound"),
        None => composer.hook("clipped", "clipped_never"),
    };
    for (name, expr) in ["act_f", "act_g", "act_h"].into_iter().zip(&spec.activations) {
        if expr.inputs != [Scalar::F32] || expr.result() != Ok(Scalar::F32) {
            return Err(Unsupported::new(NAME, "an activation takes a float and gives one"));
        }
        composer.expr(name, expr)?;
    }
    if spec.stored.inputs != [Scalar::F32] || spec.stored.result() != Ok(Scalar::F32) {
        return Err(Unsupported::new(NAME, "what is stored of a state is a float"));
    }
    if spec.stored.is_identity() {
        composer.hook("finish_row", "finish_nothing");
    } else {
        composer.hook("finish_row", "finish_stored").expr("stored", &spec.stored)?;
    }
    state::keepers(&mut composer, memory.map(|(units, _)| units));
    let workgroup_bytes = memory.map_or(0, |(_, bytes)| bytes);
    let lanes = lanes(spec.hidden);
    composer.constant("LANES", lanes);
    let groups = u64::from(spec.batch) * u64::from(spec.directions);
    let needs = Needs { workgroup_bytes, ..Needs::default() };
    composer.finish("walk", lanes, groups, needs, caps)
}

#[cfg(test)]
mod tests;
