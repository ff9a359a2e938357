//! The CPU: rten where it runs a model right, the engine's interpreter elsewhere.
//!
//! rten is the faster of the two and lacks operators and types that the engine has; and a library
//! that is fast may still be wrong about a model. So a model that both run is run by both once, on
//! the same inputs, and rten serves it only where they agree.

mod compare;
mod rten;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ::rten::ThreadPool;
use gw_engine::graph::Graph;
use gw_engine::{Interpreter, Model, PlanOptions};
use gw_tensor::{Shape, Tensor};

use super::guard::guard;
use super::import::{draws_numbers, import_error, rows_are_independent, run_error, signature};
use super::nominal::nominal_inputs;
use super::{Backend, BackendKind, Footprint, LoadedModel};
use crate::{InferenceError, Signature};
use rten::Rten;

const DEVICE: &str = "cpu";

/// How far rten may be from the interpreter, over the range of an output: both round, and a
/// quantised model rounds to one step of 255.
const ERROR_MAX: f64 = 1e-2;

/// The CPU with one pool of threads for all models.
pub(super) struct Cpu {
    /// `None` is rten's own pool, one thread per physical core.
    threads: Option<Arc<ThreadPool>>,
    count: usize,
}

impl Cpu {
    pub(super) fn new(threads: Option<NonZeroUsize>) -> Self {
        let pool = |count: NonZeroUsize| Arc::new(ThreadPool::with_num_threads(count.get()));
        let count = threads.or_else(|| std::thread::available_parallelism().ok());
        Self { threads: threads.map(pool), count: count.map_or(1, NonZeroUsize::get) }
    }
}

impl Backend for Cpu {
    fn kind(&self) -> BackendKind {
        BackendKind::Cpu
    }

    fn device(&self) -> &str {
        DEVICE
    }

    fn load(&self, name: &str, path: &Path) -> Result<Box<dyn LoadedModel>, InferenceError> {
        guard(name, DEVICE, || Ok(Box::new(CpuModel::load(name, path, self)?) as _))
    }
}

/// What runs a model.
enum Runner {
    Rten(Box<Rten>),
    Interpreter(Interpreter),
}

/// The two that can run a model, of which the first run chooses one.
struct Candidates(Box<Rten>, Interpreter);

struct CpuModel {
    name: String,
    signature: Signature,
    rows_are_independent: bool,
    /// Empty until the candidates have run once.
    runner: OnceLock<Runner>,
    candidates: Mutex<Option<Candidates>>,
    threads: Option<Arc<ThreadPool>>,
    thread_count: usize,
}

impl CpuModel {
    fn load(name: &str, path: &Path, cpu: &Cpu) -> Result<Self, InferenceError> {
        // The engine reads the file first, for the types and dimensions that rten does not keep
        // and for errors that say what is wrong with a damaged file. An operator that only the
        // engine lacks is no obstacle.
        let engine = Model::open(path);
        let imported;
        let graph = match &engine {
            Ok(model) => model.graph(),
            Err(_) => {
                imported = gw_engine::onnx::open(path)
                    .map_err(|error| import_error(name, DEVICE, &error))?;
                &imported
            }
        };
        let signature = signature(graph);
        let rten = match reads_bits(graph) {
            false => Rten::load(name, path, &signature, cpu.threads.clone()).map(Box::new),
            true => Err(InferenceError::Load {
                model: name.to_owned(),
                reason: "rten holds the bits of no type of eight bytes".to_owned(),
            }),
        };
        let (rows_are_independent, draws) = (rows_are_independent(graph), draws_numbers(graph));
        let interpreter = |model| Interpreter::new(Arc::new(model), PlanOptions::default());
        let mut candidates = None;
        let runner = match (rten, engine) {
            // Two that draw random numbers never agree.
            (Ok(rten), Ok(_)) if draws => Some(Runner::Rten(rten)),
            (Ok(rten), Ok(model)) => {
                candidates = Some(Candidates(rten, interpreter(model)));
                None
            }
            (Ok(rten), Err(_)) => Some(Runner::Rten(rten)),
            (Err(reason), Ok(model)) => {
                tracing::info!(model = %name, %reason, "the engine runs it on the cpu");
                Some(Runner::Interpreter(interpreter(model)))
            }
            (Err(error), Err(_)) => return Err(error),
        };
        let loaded = Self {
            name: name.to_owned(),
            signature,
            rows_are_independent,
            runner: runner.map_or_else(OnceLock::new, OnceLock::from),
            candidates: Mutex::new(candidates),
            threads: cpu.threads.clone(),
            thread_count: cpu.count,
        };
        loaded.warm_up()?;
        Ok(loaded)
    }

    /// Runs once on nothing, which decides who runs the model and finds what it cannot run. What
    /// else goes wrong at sizes that nobody asked for says nothing about other sizes.
    fn warm_up(&self) -> Result<(), InferenceError> {
        let Some(inputs) = nominal_inputs(&self.signature) else { return Ok(()) };
        match self.run(&inputs) {
            Err(error @ InferenceError::Unsupported { .. }) => Err(error),
            Err(error) => {
                tracing::debug!(model = %self.name, %error, "not warmed up");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    fn run_checked(&self, inputs: Vec<Tensor>) -> Result<Vec<(String, Tensor)>, InferenceError> {
        if let Some(runner) = self.runner.get() {
            return self.run_on(runner, inputs);
        }
        // Who comes meanwhile waits for the choice.
        let mut place = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Candidates(rten, interpreter)) = place.take() else {
            drop(place);
            let lost = "its choice of a runner failed before; load it again".to_owned();
            let model = self.name.clone();
            let runner = self.runner.get().ok_or(InferenceError::Load { model, reason: lost })?;
            return self.run_on(runner, inputs);
        };
        let fast = guard(&self.name, DEVICE, || rten.run(&inputs));
        let exact = guard(&self.name, DEVICE, || self.interpret(&interpreter, inputs));
        let (result, runner) = match (fast, exact) {
            (Ok(fast), Ok(exact)) => match compare::worst(&fast, &exact) {
                error if error <= ERROR_MAX => (Ok(fast), Runner::Rten(rten)),
                error => {
                    tracing::warn!(model = %self.name, error, "rten is off; the engine runs it");
                    (Ok(exact), Runner::Interpreter(interpreter))
                }
            },
            (Ok(fast), Err(_)) => (Ok(fast), Runner::Rten(rten)),
            (Err(reason), Ok(exact)) => {
                tracing::info!(model = %self.name, %reason, "the engine runs it on the cpu");
                (Ok(exact), Runner::Interpreter(interpreter))
            }
            // The inputs may be at fault: others decide.
            (Err(_), Err(error)) => {
                *place = Some(Candidates(rten, interpreter));
                return Err(error);
            }
        };
        let _ = self.runner.set(runner);
        result
    }

    fn run_on(
        &self,
        runner: &Runner,
        inputs: Vec<Tensor>,
    ) -> Result<Vec<(String, Tensor)>, InferenceError> {
        match runner {
            Runner::Rten(rten) => rten.run(&inputs),
            Runner::Interpreter(interpreter) => self.interpret(interpreter, inputs),
        }
    }

    fn interpret(
        &self,
        interpreter: &Interpreter,
        inputs: Vec<Tensor>,
    ) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let names = self.signature.inputs.iter().map(|spec| spec.name.clone());
        let inputs: Vec<(String, Tensor)> = names.zip(inputs).collect();
        let run = || interpreter.run(&inputs);
        let result = match &self.threads {
            Some(threads) => threads.run(run),
            None => run(),
        };
        result.map_err(|error| run_error(&self.name, DEVICE, &error))
    }
}

/// Whether a node looks at the bits of numbers: rten holds those of eight bytes as four.
fn reads_bits(graph: &Graph) -> bool {
    graph.nodes.iter().any(|node| node.op == "BitCast")
}

impl LoadedModel for CpuModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn device(&self) -> &str {
        DEVICE
    }

    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let inputs = (self.signature.check(inputs.to_vec()))
            .map_err(|problem| InferenceError::BadInput { model: self.name.clone(), problem })?;
        guard(&self.name, DEVICE, || self.run_checked(inputs))
    }

    fn rows_are_independent(&self) -> bool {
        self.rows_are_independent
    }

    /// One per thread: `MiniLM` on two threads takes the same time per row alone and in pairs, and
    /// a third longer per row in batches of 32 at 128 tokens.
    fn rows_side_by_side(&self) -> Option<usize> {
        Some(self.thread_count)
    }

    fn footprint(&self) -> Footprint {
        let weight_bytes = match self.runner.get() {
            Some(Runner::Rten(rten)) => rten.weight_bytes(),
            Some(Runner::Interpreter(interpreter)) => interpreter.weight_bytes(),
            None => {
                let candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
                candidates.as_ref().map_or(0, |Candidates(rten, _)| rten.weight_bytes())
            }
        };
        Footprint { weight_bytes, ..Footprint::default() }
    }

    fn dispatches(&self, _: &[(String, Shape)]) -> Result<Option<usize>, InferenceError> {
        Ok(None)
    }
}
