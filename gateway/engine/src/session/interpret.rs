//! A model on the CPU: the plans of any device, each step computed in plain Rust.
//!
//! It runs what a device would, operator by operator and value by value, with no driver: where
//! there is no adapter, where another library cannot run a model, and as what others are compared
//! with. Products and convolutions are as fast as the CPU allows; most other steps run on one
//! thread, from the same references that kernels are tested against.
//!
//! - `program`: a plan, ready to run, and its run.
//! - `product`: matrix products; `convolution`: as products of windows; `epilogue`: their ends.
//! - `pointwise`, `attention`: over whole rows instead of single elements.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "sizes of a plan fit 32 bits, and places lie inside their buffers"
)]

mod attention;
mod convolution;
mod epilogue;
mod pointwise;
mod product;
mod program;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gw_shaders::kernel::Caps;
use gw_tensor::Tensor;

use super::error::RunError;
use super::parts::Part;
use super::plans::Plans;
use crate::model::{Model, PlanOptions, Signature, Stage};
use crate::net::oracle::Answer;
use program::{Program, Weights};

/// Sets of input shapes that stay ready, as many as those of a [`crate::Session`].
const PROGRAMS_MAX: usize = 32;
/// Bytes of intermediate results that one run may hold, as those of a [`crate::Session`].
const MEMORY_MAX: u64 = 4 << 30;

/// What the CPU offers to a plan: no limit that would split a step.
const CAPS: Caps =
    Caps { storage_buffers: 64, binding_bytes: u64::MAX, software: false, ..Caps::minimal() };

/// A part of a run, ready; see [`crate::Session`].
enum Ready {
    Input(usize),
    Value(Program),
    Whole(Program),
}

/// A model on the CPU. Any number of threads may run it at once.
pub struct Interpreter {
    model: Arc<Model>,
    options: PlanOptions,
    programs: Plans<Part, Ready>,
    weights: Weights,
    asks_values: AtomicBool,
}

impl Interpreter {
    /// Nothing is planned yet.
    pub fn new(model: Arc<Model>, options: PlanOptions) -> Self {
        let programs = Plans::new(PROGRAMS_MAX);
        Self {
            model,
            options,
            programs,
            weights: Weights::default(),
            asks_values: AtomicBool::new(false),
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What a run takes and gives.
    pub fn signature(&self) -> &Signature {
        self.model.signature()
    }

    /// Whether values of a run decided what had to be computed, in any run so far: not its shapes
    /// alone.
    pub fn asks_values(&self) -> bool {
        self.asks_values.load(Ordering::Relaxed)
    }

    /// Bytes of weights that it holds now, in the form that it reads them.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.bytes()
    }

    /// Runs the model once. The outputs come in the model's order.
    ///
    /// # Errors
    /// [`RunError`]; [`RunError::is_caller_fault`] tells bad input from the rest.
    pub fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, RunError> {
        let given = inputs.iter().map(|(name, tensor)| (name, tensor.dtype(), tensor));
        let ordered = self.signature().ordered(given)?;
        let mut key = Part::shapes(ordered.iter().map(|tensor| tensor.shape()));
        loop {
            let answer = match &*self.programs.get(&key, |key| self.ready(key))? {
                Ready::Whole(program) => return program.run(&ordered),
                Ready::Input(index) => Answer::Input(*index, ordered[*index].clone()),
                Ready::Value(program) => Answer::Value(program.run(&ordered)?.swap_remove(0).1),
            };
            self.asks_values.store(true, Ordering::Relaxed);
            key.push(Part::Known(answer));
        }
    }

    fn ready(&self, key: &[Part]) -> Result<Ready, RunError> {
        let (shapes, answers) = Part::apart(key, self.signature());
        Ok(match self.model.stage(&shapes, &answers, &CAPS, self.options)? {
            Stage::Whole(plan) => Ready::Whole(Program::new(plan, &self.weights, MEMORY_MAX)?),
            Stage::Value(plan, _) => Ready::Value(Program::new(plan, &self.weights, MEMORY_MAX)?),
            Stage::Input(index, _) => Ready::Input(index),
        })
    }
}

#[cfg(test)]
mod tests;

impl fmt::Debug for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interpreter")
            .field("model", &self.model.name())
            .field("options", &self.options)
            .field("programs", &self.programs.len())
            .finish_non_exhaustive()
    }
}
