//! The CPU: rten where it runs a model right, the engine's interpreter elsewhere.
//!
//! rten is the faster of the two and lacks operators and types that the engine has; and a library
//! that is fast may still be wrong about a model. So a model that both run is run by both once, on
//! the same inputs, and rten serves it only where they agree.

mod compare;
mod mapped;
mod rten;
mod tables;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ::rten::ThreadPool;
use gw_engine::{Interpreter, PlanOptions, Value};
use gw_tensor::{Shape, Tensor};

use super::guard::guard;
use super::import::{
    chain, draws_numbers, find_op, import_error, is_too_large, read, read_graph, run_error,
    signature,
};
use super::nominal::nominal_inputs;
use super::rows::Rows;
use super::{Backend, BackendKind, Footprint, LoadedModel, ModelSource, read_all};
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
    /// One thread each, for runs beside others.
    singles: Arc<Singles>,
    count: usize,
}

/// Pools of one thread: as many as runs may be under way side by side.
struct Singles(Mutex<Vec<Arc<ThreadPool>>>);

impl Singles {
    fn new(count: usize) -> Arc<Self> {
        let pools = (0..count).map(|_| Arc::new(ThreadPool::with_num_threads(1)));
        Arc::new(Self(Mutex::new(pools.collect())))
    }

    /// Runs `work` with a pool of its own, if there is one left.
    fn with<T>(&self, work: impl FnOnce(Option<Arc<ThreadPool>>) -> T) -> T {
        let pools = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = pools().pop();
        let done = work(pool.clone());
        pools().extend(pool);
        done
    }
}

impl Cpu {
    pub(super) fn new(threads: Option<NonZeroUsize>) -> Self {
        let pool = |count: NonZeroUsize| Arc::new(ThreadPool::with_num_threads(count.get()));
        let count = threads.or_else(|| std::thread::available_parallelism().ok());
        let count = count.map_or(1, NonZeroUsize::get);
        Self { threads: threads.map(pool), singles: Singles::new(count), count }
    }
}

impl Backend for Cpu {
    fn kind(&self) -> BackendKind {
        BackendKind::Cpu
    }

    fn device(&self) -> &str {
        DEVICE
    }

    /// One per thread. `MiniLM` answers short texts faster by one thread for each than by all
    /// threads for one after the other.
    fn slots(&self) -> usize {
        self.count
    }

    fn load(
        &self,
        name: &str,
        source: ModelSource<'_>,
    ) -> Result<Box<dyn LoadedModel>, InferenceError> {
        guard(name, DEVICE, || Ok(Box::new(CpuModel::load(name, source, self)?) as _))
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
    rows: Rows,
    /// Whether two runs on the same inputs may differ.
    draws: bool,
    /// Empty until the candidates have run once.
    runner: OnceLock<Runner>,
    candidates: Mutex<Option<Candidates>>,
    threads: Option<Arc<ThreadPool>>,
    singles: Arc<Singles>,
}

impl CpuModel {
    fn load(name: &str, source: ModelSource<'_>, cpu: &Cpu) -> Result<Self, InferenceError> {
        // The engine reads the file first, for the types and dimensions that rten does not keep
        // and for errors that say what is wrong with a damaged file. An operator that only the
        // engine lacks is no obstacle.
        let engine = read(name, source);
        let imported;
        let graph = match &engine {
            Ok(model) => model.graph(),
            Err(_) => {
                imported =
                    read_graph(name, source).map_err(|error| import_error(name, DEVICE, &error))?;
                &imported
            }
        };
        let signature = signature(graph);
        // What the engine cannot read, it cannot judge.
        let rows = engine.as_ref().map_or_else(|_| Rows::meet(), |own| Rows::of(own, &signature));
        let draws = draws_numbers(graph);
        let mistaken = find_op(graph, &|op| MISTAKEN.contains(&op)).map(str::to_owned);
        let interpreter =
            engine.map(|model| Interpreter::new(Arc::new(model), PlanOptions::default()));
        let barred = match (&interpreter, mistaken) {
            (_, Some(op)) => Some(format!("rten is wrong about {op}")),
            (Ok(interpreter), None) => barred(interpreter, &signature),
            (Err(_), None) => None,
        };
        let rten = match barred {
            None => Rten::load(name, source, &signature).map(Box::new),
            Some(reason) => Err(InferenceError::Load { model: name.to_owned(), reason }),
        };
        let mut candidates = None;
        let runner = match (rten, interpreter) {
            (Ok(rten), Ok(interpreter)) => {
                candidates = Some(Candidates(rten, interpreter));
                None
            }
            (Ok(rten), Err(_)) => Some(Runner::Rten(rten)),
            (Err(reason), Ok(interpreter)) => {
                tracing::info!(model = %name, %reason, "the engine runs it on the cpu");
                Some(Runner::Interpreter(interpreter))
            }
            (Err(error), Err(_)) => return Err(error),
        };
        let loaded = Self {
            name: name.to_owned(),
            signature,
            rows,
            draws,
            runner: runner.map_or_else(OnceLock::new, OnceLock::from),
            candidates: Mutex::new(candidates),
            threads: cpu.threads.clone(),
            singles: Arc::clone(&cpu.singles),
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

    /// `threads` is `None` for all of them.
    fn run_checked(
        &self,
        inputs: Vec<Tensor>,
        threads: Option<&Arc<ThreadPool>>,
    ) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let threads = threads.or(self.threads.as_ref());
        if let Some(runner) = self.runner.get() {
            return self.run_on(runner, inputs, threads);
        }
        // Who comes meanwhile waits for the choice.
        let mut place = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Candidates(rten, interpreter)) = place.take() else {
            drop(place);
            let lost = "its choice of a runner failed before; load it again".to_owned();
            let model = self.name.clone();
            let runner = self.runner.get().ok_or(InferenceError::Load { model, reason: lost })?;
            return self.run_on(runner, inputs, threads);
        };
        let run = || self.interpret(&interpreter, inputs.clone(), threads);
        let (result, runner) = match guard(&self.name, DEVICE, run) {
            // Sizes that the values of a run decide have no bound in rten.
            Ok(exact) if interpreter.asks_values() => (Ok(exact), Runner::Interpreter(interpreter)),
            // Two that draw random numbers never agree.
            Ok(exact) if self.draws => (Ok(exact), Runner::Rten(rten)),
            Ok(exact) => self.compared(rten, interpreter, exact, &inputs),
            Err(InferenceError::Unsupported { .. }) => {
                (guard(&self.name, DEVICE, || rten.run(&inputs, threads)), Runner::Rten(rten))
            }
            // The inputs may be at fault, or they ask for more than there is: others decide.
            Err(error) => {
                *place = Some(Candidates(rten, interpreter));
                return Err(error);
            }
        };
        let _ = self.runner.set(runner);
        result
    }

    /// Runs rten on inputs that the interpreter has answered, and chooses between them.
    fn compared(
        &self,
        rten: Box<Rten>,
        interpreter: Interpreter,
        exact: Vec<(String, Tensor)>,
        inputs: &[Tensor],
    ) -> (Result<Vec<(String, Tensor)>, InferenceError>, Runner) {
        match guard(&self.name, DEVICE, || rten.run(inputs, self.threads.as_ref())) {
            Ok(fast) => match compare::worst(&fast, &exact) {
                error if error <= ERROR_MAX => (Ok(fast), Runner::Rten(rten)),
                error => {
                    tracing::warn!(model = %self.name, error, "rten is off; the engine runs it");
                    (Ok(exact), Runner::Interpreter(interpreter))
                }
            },
            Err(reason) => {
                tracing::info!(model = %self.name, %reason, "the engine runs it on the cpu");
                (Ok(exact), Runner::Interpreter(interpreter))
            }
        }
    }

    fn run_on(
        &self,
        runner: &Runner,
        inputs: Vec<Tensor>,
        threads: Option<&Arc<ThreadPool>>,
    ) -> Result<Vec<(String, Tensor)>, InferenceError> {
        match runner {
            Runner::Rten(rten) => rten.run(&inputs, threads),
            Runner::Interpreter(interpreter) => self.interpret(interpreter, inputs, threads),
        }
    }

    fn interpret(
        &self,
        interpreter: &Interpreter,
        inputs: Vec<Tensor>,
        threads: Option<&Arc<ThreadPool>>,
    ) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let names = self.signature.inputs.iter().map(|spec| spec.name.clone());
        let inputs: Vec<(String, Tensor)> = names.zip(inputs).collect();
        let run = || interpreter.run(&inputs);
        let result = match threads {
            Some(threads) => threads.run(run),
            None => run(),
        };
        if result.is_ok() {
            let shapes = inputs.iter().map(|(_, x)| x.shape());
            self.rows.judge(interpreter.model(), &self.signature, shapes);
        }
        result.map_err(|error| run_error(&self.name, DEVICE, &error))
    }
}

/// Why rten may not even read a model, as a run on nothing shows: it folds constants when it loads,
/// and has no bound on sizes.
fn barred(interpreter: &Interpreter, signature: &Signature) -> Option<String> {
    let inputs = nominal_inputs(signature)?;
    match guard("", DEVICE, || Ok(interpreter.run(&inputs))).ok()? {
        Ok(_) if interpreter.asks_values() => {
            Some("sizes that the values of a run decide have no bound in rten".to_owned())
        }
        Err(error) if is_too_large(&error) => Some(chain(&error)),
        _ => None,
    }
}

/// Operators about which rten 0.27 is wrong for values that a trial may not have: it holds numbers
/// of eight bytes as four, and its exponential is infinite where a Softplus is 89.
const MISTAKEN: [&str; 2] = ["BitCast", "Softplus"];

impl LoadedModel for CpuModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn device(&self) -> &str {
        DEVICE
    }

    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let inputs = (self.signature.check(inputs.to_vec()))
            .map_err(|problem| InferenceError::BadInput { model: self.name.clone(), problem })?;
        guard(&self.name, DEVICE, || self.run_checked(inputs, None))
    }

    fn run_beside(
        &self,
        inputs: &[(String, Value)],
    ) -> Result<Vec<(String, Value)>, InferenceError> {
        let inputs = read_all(&self.name, inputs)?;
        let inputs = (self.signature.check(inputs))
            .map_err(|problem| InferenceError::BadInput { model: self.name.clone(), problem })?;
        let run = |threads: Option<Arc<ThreadPool>>| self.run_checked(inputs, threads.as_ref());
        let outputs = guard(&self.name, DEVICE, || self.singles.with(run))?;
        Ok(outputs.into_iter().map(|(name, tensor)| (name, tensor.into())).collect())
    }

    fn rows_are_independent(&self) -> Option<bool> {
        self.rows.known()
    }

    /// Short rows share the weights that a run reads: `MiniLM` on two threads does half as many
    /// again of 4 tokens in pairs, and a tenth less of 64.
    fn joining_is_measured(&self) -> bool {
        true
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
