//! Which functions of `cell.wgsl` make a cell.

use super::Cell;
use crate::compose::Composer;

pub(super) fn name(cell: Cell) -> &'static str {
    match cell {
        Cell::Rnn => "rnn",
        Cell::Gru { linear_before_reset: false } => "gru",
        Cell::Gru { linear_before_reset: true } => "gru linear",
        Cell::Lstm { peepholes: false, .. } => "lstm",
        Cell::Lstm { peepholes: true, .. } => "lstm peepholes",
    }
}

/// Chooses them, and declares the buffer that some cells have besides.
pub(super) fn hooks(composer: &mut Composer, cell: Cell) {
    match cell {
        Cell::Rnn => {
            composer.hook("advance", "advance_once").hook("next_state", "next_rnn");
        }
        Cell::Gru { linear_before_reset: false } => {
            composer.hook("advance", "advance_reset");
        }
        Cell::Gru { linear_before_reset: true } => {
            composer.hook("advance", "advance_once").hook("next_state", "next_gru");
            composer.read("recurrent_bias", "f32");
        }
        Cell::Lstm { peepholes, input_forget } => {
            composer.hook("advance", "advance_once").hook("next_state", "next_lstm");
            let forget = if input_forget { "forget_coupled" } else { "forget_own" };
            composer.hook("forget_gate", forget);
            if peepholes {
                composer.read("peepholes", "f32").hook("peephole", "peephole_given");
            } else {
                composer.hook("peephole", "peephole_none");
            }
        }
    }
}
