//! Who runs a model: rten where it is right about it, as a trial shows, else the interpreter.
//!
//! A trial runs both on the same inputs, and takes longer than all else of a load.

use std::sync::PoisonError;

use gw_engine::graph::Graph;
use gw_engine::{Interpreter, RunError};
use gw_tensor::Tensor;

use super::super::guard::guard;
use super::super::import::{chain, find_op, is_too_large};
use super::super::nominal::nominal_inputs;
use super::rten::Rten;
use super::{CpuModel, DEVICE, compare};
use crate::InferenceError;

/// How far rten may be from the interpreter, over the range of an output: both round, and a
/// quantised model rounds to one step of 255.
const ERROR_MAX: f64 = 1e-2;

type Outputs = Vec<(String, Tensor)>;

/// What runs a model.
pub(super) enum Runner {
    Rten(Box<Rten>),
    Interpreter(Interpreter),
}

/// The two that can run a model, of which a trial chooses one.
pub(super) struct Candidates(pub(super) Box<Rten>, pub(super) Interpreter);

/// The end of a trial: an answer to its inputs, and who runs the model from now on.
pub(super) enum Verdict {
    Found(Result<Outputs, InferenceError>, Runner),
    /// The inputs may be at fault, or they ask for more than there is: others decide.
    Open(InferenceError, Candidates),
}

impl Candidates {
    /// Tries rten on inputs that the interpreter has answered so. `draws` says whether two runs on
    /// the same inputs may differ.
    pub(super) fn try_on(
        self,
        name: &str,
        exact: Result<Outputs, InferenceError>,
        draws: bool,
        rten: impl Fn(&Rten) -> Result<Outputs, InferenceError>,
    ) -> Verdict {
        let Self(own, interpreter) = self;
        let fast = || guard(name, DEVICE, || rten(&own));
        match exact {
            // Sizes that the values of a run decide have no bound in rten.
            Ok(exact) if interpreter.asks_values() => {
                Verdict::Found(Ok(exact), Runner::Interpreter(interpreter))
            }
            // Two that draw random numbers never agree.
            Ok(exact) if draws => Verdict::Found(Ok(exact), Runner::Rten(own)),
            Ok(exact) => match fast() {
                Ok(fast) => match compare::worst(&fast, &exact) {
                    error if error <= ERROR_MAX => Verdict::Found(Ok(fast), Runner::Rten(own)),
                    error => {
                        tracing::warn!(model = %name, error, "rten is off; the engine runs it");
                        Verdict::Found(Ok(exact), Runner::Interpreter(interpreter))
                    }
                },
                Err(reason) => {
                    tracing::info!(model = %name, %reason, "the engine runs it on the cpu");
                    Verdict::Found(Ok(exact), Runner::Interpreter(interpreter))
                }
            },
            Err(InferenceError::Unsupported { .. }) => Verdict::Found(fast(), Runner::Rten(own)),
            Err(error) => Verdict::Open(error, Self(own, interpreter)),
        }
    }
}

impl CpuModel {
    /// Tries the model on nothing, which decides who runs it and finds what it cannot run: whether
    /// that is rten, where any load would find the same. What else goes wrong at sizes that nobody
    /// asked for says nothing about other sizes, and the first request decides.
    pub(super) fn try_out(
        &self,
        interpreter: Interpreter,
        mistaken: Option<String>,
        rten: impl FnOnce() -> Result<Box<Rten>, InferenceError>,
    ) -> Result<Option<bool>, InferenceError> {
        let inputs = nominal_inputs(&self.signature);
        let inputs: Option<Vec<Tensor>> =
            inputs.map(|inputs| inputs.into_iter().map(|(_, tensor)| tensor).collect());
        let threads = self.threads.as_ref();
        let exact = inputs.as_ref().map(|inputs| {
            let run = || Ok(self.interpreted(&interpreter, inputs.clone(), threads));
            guard(&self.name, DEVICE, run)
        });
        let barred = mistaken.or_else(|| barred(&interpreter, exact.as_ref()?.as_ref().ok()?));
        let exact = exact.map(|exact| exact?.map_err(|error| self.run_error(&error)));
        let is_barred = barred.is_some();
        let rten = match barred {
            None => rten(),
            Some(reason) => Err(InferenceError::Load { model: self.name.clone(), reason }),
        };
        let mut place = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        let (result, runner, lasts) = match (rten, exact) {
            (Err(reason), exact) => {
                tracing::info!(model = %self.name, %reason, "the engine runs it on the cpu");
                let lasts = is_barred || matches!(reason, InferenceError::Unsupported { .. });
                let result = exact.map_or(Ok(()), |exact| exact.map(drop));
                (result, Runner::Interpreter(interpreter), lasts)
            }
            (Ok(rten), None) => {
                *place = Some(Candidates(rten, interpreter));
                return Ok(None);
            }
            (Ok(rten), Some(exact)) => {
                let inputs = inputs.as_deref().unwrap_or_default();
                let run = |rten: &Rten| rten.run(inputs, threads);
                match Candidates(rten, interpreter).try_on(&self.name, exact, self.draws, run) {
                    Verdict::Found(result, runner) => {
                        let lasts = result.is_ok();
                        (result.map(drop), runner, lasts)
                    }
                    Verdict::Open(error, candidates) => {
                        tracing::debug!(model = %self.name, %error, "not warmed up");
                        *place = Some(candidates);
                        return Ok(None);
                    }
                }
            }
        };
        if let Err(error @ InferenceError::Unsupported { .. }) = result {
            return Err(error);
        }
        let by_rten = matches!(runner, Runner::Rten(_));
        let _ = self.runner.set(runner);
        Ok(lasts.then_some(by_rten))
    }
}

/// Why rten may not even read a model, as a run of the interpreter shows: rten folds constants when
/// it loads, and has no bound on sizes.
fn barred<T>(interpreter: &Interpreter, exact: &Result<T, RunError>) -> Option<String> {
    match exact {
        Ok(_) if interpreter.asks_values() => {
            Some("sizes that the values of a run decide have no bound in rten".to_owned())
        }
        Err(error) if is_too_large(error) => Some(chain(error)),
        _ => None,
    }
}

/// Operators about which rten 0.27 is wrong for values that a trial may not have: it holds numbers
/// of eight bytes as four, and its exponential is infinite where a Softplus is 89.
const MISTAKEN: [&str; 2] = ["BitCast", "Softplus"];

/// Why rten would be wrong about a model, if that is known.
pub(super) fn mistaken(graph: &Graph) -> Option<String> {
    let op = find_op(graph, &|op| MISTAKEN.contains(&op))?;
    Some(format!("rten is wrong about {op}"))
}
