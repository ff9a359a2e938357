//! wasi-nn over the official WIT: models by name, tensors in, tensors out.
//!
//! `compute` is bound as async: a guest that waits for a device holds no thread. Nothing here
//! trusts a guest: a tensor is only bytes with a claim until `compute` checks it, and every
//! mistake is a `wasi:nn` error with its code, never a trap of ours.
#![expect(unreachable_pub, reason = "the generated bindings re-export the types of resources")]

mod tensor;

use std::sync::Arc;
use std::time::{Duration, Instant};

use gw_inference::{Inference, InferenceError, Model, Spent};
use gw_tensor::Tensor;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use self::bindings::wasi::nn::errors::ErrorCode;
use self::bindings::wasi::nn::graph::{ExecutionTarget, GraphEncoding};
pub(crate) use self::bindings::wasi::nn::tensor::TensorType;
use self::bindings::wasi::nn::{errors, graph, inference, tensor as wit_tensor};
pub use self::tensor::GuestTensor;
use crate::Timings;
use crate::instance::State;
use crate::plugin::Grants;

#[allow(clippy::pedantic, reason = "generated code")]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/deps/nn.wit",
        world: "ml",
        imports: {
            "wasi:nn/graph.load": async | trappable,
            "wasi:nn/graph.load-by-name": async | trappable,
            "wasi:nn/inference.[method]graph-execution-context.compute": async | trappable,
            "wasi:nn/tensor.[method]tensor.data": async | trappable,
            default: trappable,
        },
        with: {
            "wasi:nn/tensor.tensor": super::GuestTensor,
            "wasi:nn/errors.error": super::NnError,
            "wasi:nn/graph.graph": super::Graph,
            "wasi:nn/inference.graph-execution-context": super::ExecutionContext,
        },
    });
}

/// The longest message that is kept for a guest.
const MESSAGE_BYTES_MAX: usize = 1024;

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wit_tensor::add_to_linker::<_, Interface>(linker, State::nn)?;
    errors::add_to_linker::<_, Interface>(linker, State::nn)?;
    inference::add_to_linker::<_, Interface>(linker, State::nn)?;
    graph::add_to_linker::<_, Interface>(linker, State::nn)
}

struct Interface;

impl HasData for Interface {
    type Data<'a> = NnView<'a>;
}

/// What wasi-nn keeps for one instance.
pub(crate) struct Nn {
    grants: Arc<Grants>,
    deadline: Instant,
    /// What tensors may still take, in bytes.
    bytes_left: usize,
    queue: Duration,
    infer: Duration,
    device: Option<Arc<str>>,
    /// What the guest waits for.
    asked: Option<(Arc<Model>, Arc<Spent>)>,
    error: Option<InferenceError>,
}

impl Nn {
    pub(crate) fn new(grants: Arc<Grants>, deadline: Instant, bytes_max: usize) -> Self {
        Self {
            grants,
            deadline,
            bytes_left: bytes_max,
            queue: Duration::ZERO,
            infer: Duration::ZERO,
            device: None,
            asked: None,
            error: None,
        }
    }

    /// Adds what the inferences of this instance took, one under way included.
    pub(crate) fn report(mut self, timings: &mut Timings) {
        let asked = self.asked.as_ref().map(|(model, _)| model.name().into());
        timings.awaited = asked.or_else(|| match &self.error {
            // The model's timer and the guest's fire together; the model's came first.
            Some(InferenceError::DeadlinePassed { model, .. }) => Some(model.as_str().into()),
            _ => None,
        });
        self.settle();
        timings.queue = self.queue;
        timings.infer = self.infer;
        timings.device = self.device;
    }

    /// The last error of a model.
    pub(crate) fn error(&self) -> Option<InferenceError> {
        self.error.clone()
    }

    /// Asks a model, and notes what that took.
    async fn ask(
        &mut self,
        model: &Arc<Model>,
        inputs: Vec<(String, Tensor)>,
    ) -> Result<Inference, InferenceError> {
        let spent = Arc::default();
        // Noted here, because the future is dropped where the request's time is over.
        self.asked = Some((Arc::clone(model), Arc::clone(&spent)));
        let result = model.infer_watched(inputs, self.deadline, spent).await;
        self.settle();
        if let Err(error) = &result {
            self.error = Some(error.clone());
        }
        result
    }

    /// Adds what the last question took until now.
    fn settle(&mut self) {
        let Some((model, spent)) = self.asked.take() else { return };
        self.queue += spent.queue();
        self.infer += spent.compute();
        if !spent.compute().is_zero() {
            self.device = Some(model.device().into());
        }
    }
}

/// wasi-nn of one instance, with the table that holds its resources.
pub(crate) struct NnView<'a> {
    pub(crate) nn: &'a mut Nn,
    pub(crate) table: &'a mut ResourceTable,
}

/// A graph: a model that the plugin was granted.
pub struct Graph(Arc<Model>);

/// An execution context; inputs come with `compute`, so it binds nothing more than its graph.
pub struct ExecutionContext(Arc<Model>);

/// An error as the guest sees it.
pub struct NnError {
    code: ErrorCode,
    data: String,
}

impl NnError {
    fn new(code: ErrorCode, data: impl Into<String>) -> Self {
        let mut data = data.into();
        // Guests choose the names that messages quote, and may keep a thousand of them.
        data.truncate(data.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self { code, data }
    }

    /// What is wrong, for people.
    pub(crate) fn text(&self) -> &str {
        &self.data
    }
}

impl From<InferenceError> for NnError {
    fn from(error: InferenceError) -> Self {
        let code = match &error {
            InferenceError::NotFound { .. } => ErrorCode::NotFound,
            InferenceError::BadInput { .. } => ErrorCode::InvalidArgument,
            InferenceError::DeadlinePassed { .. } => ErrorCode::Timeout,
            InferenceError::Unsupported { .. } => ErrorCode::UnsupportedOperation,
            InferenceError::Run { .. }
            | InferenceError::QueueFull { .. }
            | InferenceError::Busy { .. }
            | InferenceError::Unloading { .. }
            | InferenceError::Load { .. }
            | InferenceError::NoDevice { .. }
            | InferenceError::Device { .. }
            | InferenceError::Panicked { .. } => ErrorCode::RuntimeError,
        };
        Self::new(code, error.to_string())
    }
}

type NamedTensor = (String, Resource<GuestTensor>);
type Answer<T> = wasmtime::Result<Result<T, Resource<NnError>>>;

impl NnView<'_> {
    /// Hands an error to the guest as a resource.
    fn answer<T>(&mut self, result: Result<T, NnError>) -> Answer<T> {
        Ok(match result {
            Ok(value) => Ok(value),
            Err(error) => Err(self.table.push(error)?),
        })
    }

    /// Takes the inputs from the guest; they are its own no longer, whatever happens next.
    fn take(&mut self, inputs: Vec<NamedTensor>) -> wasmtime::Result<Vec<(String, GuestTensor)>> {
        let mut taken = Vec::with_capacity(inputs.len());
        for (name, resource) in inputs {
            taken.push((name, self.remove_tensor(resource)?));
        }
        Ok(taken)
    }

    async fn run(
        &mut self,
        model: &Arc<Model>,
        inputs: Vec<(String, GuestTensor)>,
    ) -> Result<Vec<(String, GuestTensor)>, NnError> {
        let inputs = inputs
            .into_iter()
            .map(|(name, tensor)| match tensor.check() {
                Ok(tensor) => Ok((name, tensor)),
                Err(error) => {
                    Err(NnError::new(error.code, format!("input {name:?}: {}", error.data)))
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let inference = self.nn.ask(model, inputs).await?;
        let outputs = inference
            .outputs
            .into_iter()
            .map(|(name, tensor)| Ok((name, GuestTensor::output(&tensor)?)))
            .collect::<Result<Vec<_>, NnError>>()?;
        let bytes = outputs.iter().map(|(_, tensor)| tensor.bytes()).sum::<usize>();
        if bytes > self.nn.bytes_left {
            return Err(tensor::too_large());
        }
        Ok(outputs)
    }
}

impl inference::Host for NnView<'_> {}

impl inference::HostGraphExecutionContext for NnView<'_> {
    async fn compute(
        &mut self,
        this: Resource<ExecutionContext>,
        inputs: Vec<NamedTensor>,
    ) -> Answer<Vec<NamedTensor>> {
        let inputs = self.take(inputs)?;
        let model = Arc::clone(&self.table.get(&this)?.0);
        match self.run(&model, inputs).await {
            Err(error) => self.answer(Err(error)),
            Ok(outputs) => {
                let mut given = Vec::with_capacity(outputs.len());
                for (name, tensor) in outputs {
                    given.push((name, self.push_tensor(tensor)?));
                }
                Ok(Ok(given))
            }
        }
    }

    fn drop(&mut self, this: Resource<ExecutionContext>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl graph::Host for NnView<'_> {
    async fn load(
        &mut self,
        _builder: Vec<Vec<u8>>,
        _encoding: GraphEncoding,
        _target: ExecutionTarget,
    ) -> Answer<Resource<Graph>> {
        self.answer(Err(NnError::new(
            ErrorCode::UnsupportedOperation,
            "models are loaded by name here; name one in gw.toml and grant it to the plugin",
        )))
    }

    async fn load_by_name(&mut self, name: String) -> Answer<Resource<Graph>> {
        let Some(model) = self.nn.grants.models.get(&name).map(Arc::clone) else {
            let data = format!("no model named {name:?} is granted to this plugin");
            return self.answer(Err(NnError::new(ErrorCode::NotFound, data)));
        };
        Ok(Ok(self.table.push(Graph(model))?))
    }
}

impl graph::HostGraph for NnView<'_> {
    fn init_execution_context(
        &mut self,
        this: Resource<Graph>,
    ) -> Answer<Resource<ExecutionContext>> {
        let model = Arc::clone(&self.table.get(&this)?.0);
        Ok(Ok(self.table.push(ExecutionContext(model))?))
    }

    fn drop(&mut self, this: Resource<Graph>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl errors::Host for NnView<'_> {}

impl errors::HostError for NnView<'_> {
    fn code(&mut self, this: Resource<NnError>) -> wasmtime::Result<ErrorCode> {
        Ok(self.table.get(&this)?.code)
    }

    fn data(&mut self, this: Resource<NnError>) -> wasmtime::Result<String> {
        Ok(self.table.get(&this)?.data.clone())
    }

    fn drop(&mut self, this: Resource<NnError>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
