//! Execution contexts: a graph, the state that its runs leave, and in the older snapshots the
//! tensors that are bound to it.

use std::sync::Arc;

use gw_inference::{InferenceError, InputProblem, Model};

use super::error::{ErrorCode, NnError};
use super::tensor::NnTensor;
use super::{Graph, Named, Nn, wanted};

/// What one inference is bound to.
pub(crate) struct ExecutionContext {
    model: Arc<Model>,
    /// Bound by `set-input`, or the state that the last run left; each belongs to an input of the
    /// model, so they are few.
    inputs: Named,
    /// What the last `compute` gave, for `get-output`.
    outputs: Option<Named>,
}

impl ExecutionContext {
    pub(crate) fn new(graph: &Graph) -> Self {
        Self { model: Arc::clone(&graph.0), inputs: Vec::new(), outputs: None }
    }

    pub(crate) fn model(&self) -> Arc<Model> {
        Arc::clone(&self.model)
    }

    /// Binds an input until another takes its place.
    ///
    /// # Errors
    /// Where the model has no such input, or the tensor is not what it claims to be.
    pub(crate) fn bind(&mut self, name: String, tensor: NnTensor) -> Result<(), NnError> {
        if wanted(&self.model, &name).is_none() {
            let inputs = &self.model.signature().inputs;
            let expected = inputs.iter().map(|spec| spec.name.clone()).collect();
            let problem = Box::new(InputProblem::Unknown { name, expected });
            return Err(
                InferenceError::BadInput { model: self.model.name().into(), problem }.into()
            );
        }
        named(&name, tensor.check())?;
        self.put(name, tensor);
        Ok(())
    }

    fn put(&mut self, name: String, tensor: NnTensor) {
        self.inputs.retain(|(bound, _)| *bound != name);
        self.inputs.push((name, tensor));
    }

    /// Ends a sequence: the outputs of the last run are gone, and the state with them.
    pub(crate) fn restart(&mut self) {
        self.outputs = None;
        let state = &self.model.policy().state;
        self.inputs.retain(|(name, _)| !state.values().any(|input| input == name));
    }

    /// What is bound, to run with. Until the run has ended there are no outputs.
    pub(crate) fn bound(&mut self) -> (Arc<Model>, Named) {
        self.outputs = None;
        (self.model(), self.inputs.clone())
    }

    /// What is given, and what is bound where nothing is given for it, to run with.
    pub(crate) fn given(&self, mut inputs: Named) -> (Arc<Model>, Named) {
        let left_out = |(name, _): &&(String, NnTensor)| !inputs.iter().any(|(it, _)| it == name);
        let bound: Named = self.inputs.iter().filter(left_out).cloned().collect();
        inputs.extend(bound);
        (self.model(), inputs)
    }

    /// Takes the state out of the outputs of a run, for the next one. A run that fails leaves the
    /// state as it was.
    pub(crate) fn advance(&mut self, outputs: &[(String, NnTensor)]) {
        let model = self.model();
        for (output, input) in &model.policy().state {
            if let Some((_, tensor)) = outputs.iter().find(|(name, _)| name == output) {
                self.put(input.clone(), tensor.clone());
            }
        }
    }

    /// Keeps the outputs of a run, and its state.
    pub(crate) fn keep(&mut self, outputs: Named) {
        self.advance(&outputs);
        self.outputs = Some(outputs);
    }

    /// An output of the last run, as often as it is asked for.
    ///
    /// # Errors
    /// Where the model has no such output, or nothing was computed.
    pub(crate) fn output(&self, name: &str) -> Result<NnTensor, NnError> {
        let declared = &self.model.signature().outputs;
        if !declared.iter().any(|spec| spec.name == name) {
            let names: Vec<&str> = declared.iter().map(|spec| spec.name.as_str()).collect();
            let names = names.join(", ");
            return Err(NnError::new(
                ErrorCode::InvalidArgument,
                format!("there is no output {name:?}; the outputs are {names}"),
            ));
        }
        let outputs = self.outputs.as_ref();
        let output = outputs.and_then(|outputs| outputs.iter().find(|(given, _)| given == name));
        output.map(|(_, tensor)| tensor.clone()).ok_or_else(|| {
            let reason =
                format!("there is no output {name:?} yet: compute first, and without error");
            NnError::new(ErrorCode::RuntimeError, reason)
        })
    }
}

impl Nn {
    /// Runs a model. Inputs are given back to the request's allowance before the outputs take of
    /// it, unless they are bound; neither is copied, and large outputs and state stay on the
    /// model's GPU.
    ///
    /// # Errors
    /// Where an input is not what it claims to be, where the inputs do not fit the model, where the
    /// outputs exceed the allowance, or as the model fails.
    pub(crate) async fn compute(
        &mut self,
        model: &Arc<Model>,
        inputs: Named,
    ) -> Result<Named, NnError> {
        let mut values = Vec::with_capacity(inputs.len());
        for (name, tensor) in inputs {
            let wanted = wanted(model, &name).map(|spec| spec.dtype);
            let value = named(&name, tensor.input(wanted).await)?;
            values.push((name, value));
        }
        self.check_device_time()?;
        let inference = self.ask(model, values).await?;
        let outputs = inference.outputs.into_iter();
        outputs
            .map(|(name, value)| {
                Ok((name, NnTensor::answer(&self.allowance, value, model.name())?))
            })
            .collect()
    }
}

/// Says which input an error is about.
fn named<T>(name: &str, input: Result<T, NnError>) -> Result<T, NnError> {
    input.map_err(|error| NnError::new(error.code, format!("input {name:?}: {}", error.data)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use gw_artifact::Digest;
    use gw_inference::{DeviceChoice, InferenceConfig, ModelPolicy, ModelSpec, Models};
    use gw_tensor::{DType, Tensor};
    use prometheus_client::registry::Registry;

    use super::super::tensor::TensorType;
    use super::*;

    /// An ONNX file: `y = x + x` over two floats.
    const DOUBLE: &[u8] = b"\x08\x08\x42\x02\x10\x0d\x3a\x35\
        \x0a\x0e\x0a\x01x\x0a\x01x\x12\x01y\x22\x03Add\x12\x01g\
        \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x02\
        \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x02";

    fn double() -> Graph {
        let models = Models::new(InferenceConfig::default(), &mut Registry::default());
        let bytes = Bytes::from_static(DOUBLE);
        let digest = Digest::of(DOUBLE);
        Graph(models.load_bytes("double", &bytes, digest, &DeviceChoice::Cpu).unwrap())
    }

    fn nn() -> Nn {
        Nn::new(Arc::default(), Instant::now() + Duration::from_mins(1), 1 << 10)
    }

    fn claim(nn: &Nn, numbers: [f32; 2]) -> NnTensor {
        let data = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        NnTensor::claim(&nn.allowance, TensorType::Fp32, (1, 8), || (vec![2], data))
    }

    /// What a model would read.
    async fn host(tensor: &NnTensor) -> Tensor {
        tensor.input(Some(DType::F32)).await.unwrap().host().unwrap().clone()
    }

    /// Where its bytes are.
    async fn place(tensor: &NnTensor) -> usize {
        host(tensor).await.bytes().as_ptr().addr()
    }

    #[tokio::test]
    async fn what_goes_from_one_model_to_the_next_is_not_copied() {
        let (mut nn, graph) = (nn(), double());
        let input = claim(&nn, [1.0, 2.0]);
        let outputs = nn.compute(&graph.0, vec![("x".to_owned(), input)]).await.unwrap();
        let (name, output) = &outputs[0];
        assert_eq!(name, "y");
        let first = place(output).await;
        let read = output.data().await.unwrap();
        assert_eq!(read.as_ptr().addr(), first, "a guest that reads it has no copy made here");
        let mut context = ExecutionContext::new(&graph);
        context.bind("x".to_owned(), output.clone()).unwrap();
        let (model, bound) = context.bound();
        assert_eq!(place(&bound[0].1).await, first);
        let outputs = nn.compute(&model, bound).await.unwrap();
        context.keep(outputs);
        let (once, again) = (context.output("y").unwrap(), context.output("y").unwrap());
        assert_eq!(place(&once).await, place(&again).await);
        let numbers = host(&once).await.to_vec::<f32>().unwrap();
        assert_eq!(numbers, [4.0, 8.0]);
    }

    #[tokio::test]
    async fn a_failed_run_leaves_no_old_outputs() {
        let (mut nn, graph) = (nn(), double());
        let mut context = ExecutionContext::new(&graph);
        context.bind("x".to_owned(), claim(&nn, [1.0, 2.0])).unwrap();
        let (model, bound) = context.bound();
        context.keep(nn.compute(&model, bound).await.unwrap());
        assert!(context.output("y").is_ok());
        let copy = || (vec![1], Bytes::from_static(&[0; 4]));
        let short = NnTensor::claim(&nn.allowance, TensorType::Fp32, (1, 4), copy);
        context.bind("x".to_owned(), short).unwrap();
        let (model, bound) = context.bound();
        let error = nn.compute(&model, bound).await.err().unwrap();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert_eq!(context.output("y").err().unwrap().code, ErrorCode::RuntimeError);
        drop(context);
        assert_eq!(nn.allowance.left(), 1 << 10, "all is given back");
    }

    /// An ONNX file: `y = h + x`, each of two floats.
    const ADD: &[u8] = b"\x08\x08\x42\x02\x10\x0d\x3a\x46\
        \x0a\x0e\x0a\x01h\x0a\x01x\x12\x01y\x22\x03Add\x12\x01g\
        \x5a\x0f\x0a\x01h\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x02\
        \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x02\
        \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x02";

    /// A model whose `y` is its next `h`: it adds up. On the CPU, and on llvmpipe where that is.
    fn adding() -> Vec<Graph> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("add.onnx");
        std::fs::write(&path, ADD).unwrap();
        let state = [("y".to_owned(), "h".to_owned())].into();
        let policy = ModelPolicy { state, ..ModelPolicy::default() };
        let spec = ModelSpec {
            name: "add".to_owned(),
            path,
            digest: Digest::of(ADD),
            device: DeviceChoice::Cpu,
            policy,
        };
        let models = Models::new(InferenceConfig::default(), &mut Registry::default());
        let on_cpu = models.load(&spec).unwrap();
        let llvmpipe = DeviceChoice::Named("llvmpipe".to_owned());
        let on_gpu = models.load(&ModelSpec { device: llvmpipe, ..spec }).ok();
        let required = std::env::var("GW_REQUIRE_GPU").is_ok_and(|value| value == "1");
        assert!(on_gpu.is_some() || !required, "GW_REQUIRE_GPU=1, but llvmpipe does not load it");
        std::iter::once(on_cpu).chain(on_gpu).map(Graph).collect()
    }

    /// Runs once as a context of the newest snapshot does; what comes out.
    async fn step(
        nn: &mut Nn,
        context: &mut ExecutionContext,
        given: &[(&str, [f32; 2])],
    ) -> Result<Vec<f32>, NnError> {
        let given = given.iter().map(|(name, x)| ((*name).to_owned(), claim(nn, *x))).collect();
        let (model, inputs) = context.given(given);
        let outputs = nn.compute(&model, inputs).await?;
        context.advance(&outputs);
        Ok(host(&outputs[0].1).await.to_vec().unwrap())
    }

    #[tokio::test]
    async fn each_context_adds_up_by_itself_until_it_is_given_a_state() {
        for graph in adding() {
            let mut nn = nn();
            let (mut one, mut other) =
                (ExecutionContext::new(&graph), ExecutionContext::new(&graph));
            let first = step(&mut nn, &mut one, &[("x", [1.0, 2.0])]).await;
            assert_eq!(first.unwrap(), [1.0, 2.0]);
            assert_eq!(step(&mut nn, &mut one, &[("x", [3.0, 3.0])]).await.unwrap(), [4.0, 5.0]);
            assert_eq!(step(&mut nn, &mut other, &[("x", [7.0, 0.0])]).await.unwrap(), [7.0, 0.0]);
            assert_eq!(step(&mut nn, &mut one, &[("x", [1.0, 1.0])]).await.unwrap(), [5.0, 6.0]);
            let anew = [("x", [1.0, 1.0]), ("h", [10.0, 20.0])];
            assert_eq!(step(&mut nn, &mut one, &anew).await.unwrap(), [11.0, 21.0]);
            assert_eq!(step(&mut nn, &mut one, &[("x", [1.0, 1.0])]).await.unwrap(), [12.0, 22.0]);
        }
    }

    #[tokio::test]
    async fn a_run_that_fails_leaves_the_state_as_it_was() {
        for graph in adding() {
            let mut nn = nn();
            let mut context = ExecutionContext::new(&graph);
            step(&mut nn, &mut context, &[("x", [1.0, 2.0])]).await.unwrap();
            let wrong = [("x", [1.0, 1.0]), ("h", [9.0, 9.0]), ("z", [0.0, 0.0])];
            let error = step(&mut nn, &mut context, &wrong).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument);
            // It runs, and there is no room for what it gives, as its input stays.
            context.bind("x".to_owned(), claim(&nn, [1.0, 1.0])).unwrap();
            let room = nn.allowance.take(nn.allowance.left()).unwrap();
            let error = step(&mut nn, &mut context, &[]).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::TooLarge);
            drop(room);
            assert_eq!(step(&mut nn, &mut context, &[]).await.unwrap(), [2.0, 3.0]);
        }
    }

    #[tokio::test]
    async fn a_state_is_free_when_its_context_is_dropped_or_restarted() {
        for graph in adding() {
            let mut nn = nn();
            let mut context = ExecutionContext::new(&graph);
            step(&mut nn, &mut context, &[("x", [1.0, 2.0])]).await.unwrap();
            let bytes = size_of::<[f32; 2]>() + size_of::<u32>();
            assert_eq!(nn.allowance.left(), (1 << 10) - bytes, "two numbers and a dimension");
            context.restart();
            assert_eq!(nn.allowance.left(), 1 << 10);
            assert_eq!(
                step(&mut nn, &mut context, &[("x", [5.0, 5.0])]).await.unwrap(),
                [5.0, 5.0]
            );
            drop(context);
            assert_eq!(nn.allowance.left(), 1 << 10);
        }
    }

    #[tokio::test]
    async fn a_bound_state_begins_a_sequence_and_goes_on() {
        for graph in adding() {
            let mut nn = nn();
            let mut context = ExecutionContext::new(&graph);
            context.bind("x".to_owned(), claim(&nn, [1.0, 1.0])).unwrap();
            context.bind("h".to_owned(), claim(&nn, [10.0, 20.0])).unwrap();
            for sum in [[11.0, 21.0], [12.0, 22.0], [13.0, 23.0]] {
                let (model, inputs) = context.bound();
                context.keep(nn.compute(&model, inputs).await.unwrap());
                let y = host(&context.output("y").unwrap()).await;
                assert_eq!(y.to_vec::<f32>().unwrap(), sum, "x stays bound, and h is the state");
            }
        }
    }
}
