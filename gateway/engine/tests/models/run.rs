//! Planning and running, with comparisons.

use std::collections::BTreeMap;
use std::sync::Arc;

use gw_engine::plan::{Plan, PortSource};
use gw_engine::{Interpreter, Model, PlanOptions, Session, SessionOptions};
use gw_shaders::kernel::Caps;
use gw_tensor::{Shape, Tensor};

use crate::device::shared;

/// Fused and plain plans add in different orders; both are near 1e-6 of the largest value.
pub const TOLERANCE: f32 = 1e-5;

pub fn shapes(inputs: &[(String, Tensor)]) -> BTreeMap<String, Shape> {
    inputs.iter().map(|(name, tensor)| (name.clone(), tensor.shape().clone())).collect()
}

pub fn floats(name: &str, dims: &[usize]) -> (String, Tensor) {
    let data = crate::onnx::noise(name, dims.iter().product());
    (name.to_owned(), Tensor::from_slice(dims, &data).unwrap())
}

/// The plan for these inputs on an adapter that offers what every adapter does.
pub fn plan(model: &Model, inputs: &[(String, Tensor)], options: PlanOptions) -> Plan {
    let plan = model.plan(&shapes(inputs), &Caps::minimal(), &options).unwrap();
    plan.verify().unwrap();
    plan
}

/// Why the model has no plan for its declared shapes.
pub fn plan_error(model: &Model) -> String {
    let plan = model.plan(&BTreeMap::new(), &Caps::minimal(), &PlanOptions::default());
    plan.unwrap_err().to_string()
}

/// The kernel families of the steps, in order.
pub fn kernels(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.dispatch.kernel.name).collect()
}

/// Runs on the device, if there is one.
pub fn run(
    model: &Arc<Model>,
    inputs: &[(String, Tensor)],
    options: PlanOptions,
) -> Option<Vec<(String, Tensor)>> {
    let options = SessionOptions { plan: options, ..SessionOptions::default() };
    let session = Session::new(Arc::clone(model), shared()?, options);
    Some(session.run(inputs).unwrap())
}

/// The outputs that are known before any run.
pub fn constants(model: &Model) -> Vec<Tensor> {
    let plan = plan(model, &[], PlanOptions::default());
    let known = |source: &PortSource| match source {
        PortSource::Constant(tensor) => tensor.clone(),
        other => panic!("{other:?} is not known before the run"),
    };
    plan.outputs.iter().map(|port| known(&port.source)).collect()
}

/// The largest difference, over the largest value that is due.
pub fn error(given: &Tensor, due: &Tensor) -> f32 {
    assert_eq!(given.shape(), due.shape());
    let (given, due) = (given.as_slice::<f32>().unwrap(), due.as_slice::<f32>().unwrap());
    let range = due.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    let differences = given.iter().zip(due.iter()).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0.0, |worst: f32, difference| {
        // `max` would drop a NaN.
        if difference.is_nan() { f32::INFINITY } else { worst.max(difference) }
    });
    worst / range
}

/// Every output of the fused plan equals that of the plain one: on the device, where there is one,
/// and on the CPU.
pub fn fused_equals_plain(model: Model, inputs: &[(String, Tensor)]) {
    let model = Arc::new(model);
    let plain = PlanOptions { fuse: false, ..PlanOptions::default() };
    let on_cpu = |options| Interpreter::new(Arc::clone(&model), options).run(inputs).unwrap();
    let due = run(&model, inputs, plain).unwrap_or_else(|| on_cpu(plain));
    let on_device = run(&model, inputs, PlanOptions::default());
    let all = on_device.into_iter().chain([on_cpu(PlanOptions::default())]).flatten();
    for ((name, given), (_, due)) in all.zip(due.iter().cycle()) {
        let error = error(&given, due);
        assert!(error <= TOLERANCE, "output {name} differs by {error}");
    }
}
