//! The CPU: rten where it runs a model right, the engine's interpreter elsewhere.
//!
//! rten is the faster of the two and lacks operators and types that the engine has; and a library
//! that is fast may still be wrong about a model. So a model that both run is run by both once, on
//! the same inputs, and rten serves it only where they agree.
//!
//! - `rten`: a model there; `mapped`, `tables`: of which less is in memory than rten would keep.
//! - `trial`: who runs a model; `compare`: how far one answer is from another; `findings`: what
//!   earlier trials have found.

mod compare;
mod findings;
mod mapped;
mod rten;
mod tables;
mod trial;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ::rten::ThreadPool;
use gw_engine::{Interpreter, Model, PlanOptions, RunError, Value};
use gw_tensor::{Shape, Tensor};

use super::guard::guard;
use super::import::{draws_numbers, import_error, read, read_graph, run_error, signature};
use super::nominal::nominal_inputs;
use super::rows::Rows;
use super::{Backend, BackendKind, Footprint, LoadedModel, ModelSource, plan_cache, read_all};
use crate::{InferenceConfig, InferenceError, Signature};
use findings::{Finding, Findings};
use rten::Rten;
use trial::{Candidates, Runner, Verdict, mistaken};

const DEVICE: &str = "cpu";

/// The CPU with one pool of threads for all models.
pub(super) struct Cpu {
    /// `None` is rten's own pool, one thread per physical core.
    threads: Option<Arc<ThreadPool>>,
    /// One thread each, for runs beside others.
    singles: Arc<Singles>,
    count: usize,
    findings: Findings,
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
    pub(super) fn new(config: &InferenceConfig) -> Self {
        let pool = |count: NonZeroUsize| Arc::new(ThreadPool::with_num_threads(count.get()));
        let threads = config.cpu_threads;
        let count = threads.or_else(|| std::thread::available_parallelism().ok());
        let count = count.map_or(1, NonZeroUsize::get);
        let findings = Findings::new(plan_cache(config));
        Self { threads: threads.map(pool), singles: Singles::new(count), count, findings }
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
        match read(name, source) {
            Ok(model) => Self::judged(name, source, model, cpu),
            Err(_) => Self::unjudged(name, source, cpu),
        }
    }

    /// A model that the engine has read.
    fn judged(
        name: &str,
        source: ModelSource<'_>,
        model: Model,
        cpu: &Cpu,
    ) -> Result<Self, InferenceError> {
        let (digest, mistaken) = (model.graph().digest, mistaken(model.graph()));
        let signature = signature(model.graph());
        let rows = Rows::of(&model, &signature);
        let loaded = Self::new(name, signature, rows, draws_numbers(model.graph()), cpu);
        let interpreter = Interpreter::new(Arc::new(model), PlanOptions::default());
        let rten = || Rten::load(name, source, &loaded.signature).map(Box::new);
        match cpu.findings.known(&digest) {
            Some(Finding { by_rten: true, rows }) => {
                if let Some(rows) = rows {
                    loaded.rows.tell(rows);
                }
                let _ = loaded.runner.set(Runner::Rten(rten()?));
            }
            Some(Finding { by_rten: false, .. }) => {
                let _ = loaded.runner.set(Runner::Interpreter(interpreter));
                loaded.warm_up()?;
            }
            None => {
                if let Some(by_rten) = loaded.try_out(interpreter, mistaken, rten)? {
                    let rows = loaded.rows.known();
                    cpu.findings.keep(&digest, Finding { by_rten, rows });
                }
            }
        }
        Ok(loaded)
    }

    /// A model that only rten can read. What the engine cannot read, it cannot judge.
    fn unjudged(name: &str, source: ModelSource<'_>, cpu: &Cpu) -> Result<Self, InferenceError> {
        let graph = read_graph(name, source).map_err(|error| import_error(name, DEVICE, &error))?;
        if let Some(reason) = mistaken(&graph) {
            return Err(InferenceError::Load { model: name.to_owned(), reason });
        }
        let loaded = Self::new(name, signature(&graph), Rows::meet(), draws_numbers(&graph), cpu);
        let rten = Rten::load(name, source, &loaded.signature)?;
        let _ = loaded.runner.set(Runner::Rten(Box::new(rten)));
        loaded.warm_up()?;
        Ok(loaded)
    }

    /// A model that nothing runs yet.
    fn new(name: &str, signature: Signature, rows: Rows, draws: bool, cpu: &Cpu) -> Self {
        Self {
            name: name.to_owned(),
            signature,
            rows,
            draws,
            runner: OnceLock::new(),
            candidates: Mutex::default(),
            threads: cpu.threads.clone(),
            singles: Arc::clone(&cpu.singles),
        }
    }

    /// Runs once on nothing, as [`Self::try_out`] does, where it is known who runs the model.
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
        let Some(candidates) = place.take() else {
            drop(place);
            let lost = "its choice of a runner failed before; load it again".to_owned();
            let model = self.name.clone();
            let runner = self.runner.get().ok_or(InferenceError::Load { model, reason: lost })?;
            return self.run_on(runner, inputs, threads);
        };
        let run = || self.interpret(&candidates.1, inputs.clone(), threads);
        let exact = guard(&self.name, DEVICE, run);
        let run = |rten: &Rten| rten.run(&inputs, threads);
        match candidates.try_on(&self.name, exact, self.draws, run) {
            Verdict::Found(result, runner) => {
                let _ = self.runner.set(runner);
                result
            }
            Verdict::Open(error, candidates) => {
                *place = Some(candidates);
                Err(error)
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
        let result = self.interpreted(interpreter, inputs, threads);
        result.map_err(|error| self.run_error(&error))
    }

    fn interpreted(
        &self,
        interpreter: &Interpreter,
        inputs: Vec<Tensor>,
        threads: Option<&Arc<ThreadPool>>,
    ) -> Result<Vec<(String, Tensor)>, RunError> {
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
        result
    }

    fn run_error(&self, error: &RunError) -> InferenceError {
        run_error(&self.name, DEVICE, error)
    }
}

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
