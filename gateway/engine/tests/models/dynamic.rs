//! Models whose graph depends on values of the run, and functions of a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use gw_engine::onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use gw_engine::{Model, PlanOptions, RunError, Session, SessionOptions};
use gw_shaders::kernel::Caps;
use gw_tensor::Tensor;
use prost::Message;

use crate::device::shared;
use crate::onnx::{FLOAT, INT64, Onnx, Value};

/// More elements than an input may have whose value is taken into the plan.
const LARGE: i64 = 3000;

fn session(model: Model) -> Option<Session> {
    Some(Session::new(Arc::new(model), shared()?, SessionOptions::default()))
}

fn run(session: &Session, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, RunError> {
    let inputs: Vec<_> =
        inputs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
    Ok(session.run(&inputs)?.into_iter().map(|(_, tensor)| tensor).collect())
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::from_slice([values.len()], values).unwrap()
}

fn floats(values: &[f32]) -> Tensor {
    Tensor::from_slice([values.len()], values).unwrap()
}

/// The nodes and outputs of `file` as a graph inside a node.
fn inner(file: Onnx) -> Value {
    Value::Graph(file.graph)
}

#[test]
fn a_shape_given_as_an_input_decides_each_run_by_its_value() {
    let model = Onnx::new(17)
        .input("x", FLOAT, &[-1])
        .input("shape", INT64, &[2])
        .node("Reshape", &["x", "shape"], "y")
        .output("y")
        .model();
    let Some(session) = session(model) else { return };
    let x = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for (shape, due) in [([2, 3], [2, 3]), ([-1, 1], [6, 1]), ([2, 3], [2, 3])] {
        let y = run(&session, &[("x", x.clone()), ("shape", ints(&shape))]).unwrap();
        assert_eq!(**y[0].shape(), due);
        assert_eq!(y[0].bytes(), x.bytes());
    }
    // Two values, each with the question for it before.
    assert_eq!(session.stats().plans, 3);
    let wrong = run(&session, &[("x", x), ("shape", ints(&[4, 2]))]).unwrap_err();
    assert!(matches!(wrong, RunError::Plan(_)), "{wrong}");
}

#[test]
fn a_plan_without_a_run_says_whose_value_it_lacks() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[4])
        .input("shape", INT64, &[2])
        .node("Reshape", &["x", "shape"], "y")
        .output("y");
    let error = crate::run::plan_error(&file.model());
    assert!(error.contains("`Reshape_0`") && error.contains("known only during the run"));
    assert!(error.contains("the value of input `shape` i64 [2] decides it"), "{error}");
    let plan = |name: &str, value: Tensor| {
        let values = [(name.to_owned(), value)].into();
        let (caps, options) = (Caps::minimal(), PlanOptions::default());
        file.model().plan_with(&BTreeMap::new(), &values, &caps, &options)
    };
    assert_eq!(*plan("shape", ints(&[2, 2])).unwrap().outputs[0].shape, [2, 2]);
    for wrong in [ints(&[2, 2, 1]), floats(&[2.0, 2.0])] {
        let error = plan("shape", wrong).unwrap_err().to_string();
        assert!(error.contains("`shape` expects i64 [2]"), "{error}");
    }
    let Some(session) = session(file.model()) else { return };
    let error = session.plan_for(&BTreeMap::new()).unwrap_err();
    assert!(error.is_caller_fault() && error.to_string().contains("`shape`"), "{error}");
}

#[test]
fn a_loop_ends_when_the_device_says_so() {
    let body = Onnx::new(17)
        .input("round", INT64, &[])
        .input("go", 9, &[])
        .input("v", FLOAT, &[LARGE])
        .node("Add", &["v", "v"], "twice")
        .node_with("ReduceMax", &["twice"], "top", &[("keepdims", Value::Int(0))])
        .node("Less", &["top", "limit"], "on")
        .output("on")
        .output("twice")
        .output("top");
    let model = Onnx::new(17)
        .input("x", FLOAT, &[LARGE])
        .floats("limit", &[], &[100.0])
        .node_with("Loop", &["", "", "x"], "last,tops", &[("body", inner(body))])
        .output("last")
        .output("tops")
        .model();
    let Some(session) = session(model) else { return };
    let mut x = vec![0.5f32; 3000];
    x[7] = 15.0;
    let y = run(&session, &[("x", floats(&x))]).unwrap();
    assert_eq!(y[1].to_vec::<f32>().unwrap(), [30.0, 60.0, 120.0]);
    assert_eq!(y[0].to_vec::<f32>().unwrap()[6..9], [4.0, 120.0, 4.0]);
    x[7] = 90.0;
    let y = run(&session, &[("x", floats(&x))]).unwrap();
    assert_eq!(y[1].to_vec::<f32>().unwrap(), [180.0]);
}

/// `y` by one branch or the other, as the sum of `x` is above 0 or not.
fn if_positive(yes: Onnx, no: Onnx) -> Onnx {
    let branches = [("then_branch", inner(yes)), ("else_branch", inner(no))];
    Onnx::new(17)
        .input("x", FLOAT, &[LARGE])
        .floats("zero", &[], &[0.0])
        .node_with("ReduceSum", &["x"], "sum", &[("keepdims", Value::Int(0))])
        .node("Greater", &["sum", "zero"], "positive")
        .node_with("If", &["positive"], "y", &branches)
}

#[test]
fn a_branch_is_taken_by_what_the_device_computed() {
    let branch = |op: &str| Onnx::new(17).node(op, &["x"], "result").output("result");
    let model = if_positive(branch("Neg"), branch("Identity")).output("y").model();
    let Some(session) = session(model) else { return };
    for (value, due) in [(2.0, -2.0), (-3.0, -3.0)] {
        let y = run(&session, &[("x", floats(&[value; 3000]))]).unwrap();
        assert_eq!(y[0].to_vec::<f32>().unwrap(), [due; 3000]);
    }
}

/// Inside of a branch a name means the branch's own value, also where one outside that is computed
/// later, even from the branch, has the same.
#[test]
fn a_name_inside_a_branch_hides_the_one_outside() {
    let branch =
        |op: &str| Onnx::new(17).node(op, &["x"], "t").node("Exp", &["t"], "y").output("y");
    let model = if_positive(branch("Neg"), branch("Abs"))
        .node("Relu", &["y"], "t")
        .node("Neg", &["t"], "z")
        .output("z")
        .model();
    let Some(session) = session(model) else { return };
    for (value, due) in [(2.0f32, -(-2.0f32).exp()), (-3.0, -3f32.exp())] {
        let z = run(&session, &[("x", floats(&[value; 3000]))]).unwrap();
        let z = z[0].to_vec::<f32>().unwrap();
        assert!(z.iter().all(|z| (z - due).abs() <= 1e-5 * due.abs()), "{} {due}", z[0]);
    }
}

#[test]
fn a_loop_without_end_is_refused() {
    let body = Onnx::new(17)
        .input("round", INT64, &[])
        .input("go", 9, &[])
        .node("Identity", &["go"], "on")
        .output("on");
    let file = Onnx::new(17)
        .input("x", FLOAT, &[1])
        .node_with("Loop", &["", ""], "", &[("body", inner(body))])
        .node("Neg", &["x"], "y")
        .output("y");
    let error = crate::run::plan_error(&file.model());
    assert!(error.contains("rounds of a loop"), "{error}");
}

/// `x` scaled by the attribute `by`, which is 3 where the call gives none.
fn scaled() -> FunctionProto {
    let by = AttributeProto {
        name: "value_float".to_owned(),
        r#type: AttributeProto::FLOAT,
        ref_attr_name: "by".to_owned(),
        ..AttributeProto::default()
    };
    let node =
        |op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>| NodeProto {
            op_type: op.to_owned(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute,
            ..NodeProto::default()
        };
    FunctionProto {
        name: "Scaled".to_owned(),
        domain: "custom".to_owned(),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        node: vec![node("Constant", &[], "x", vec![by]), node("Mul", &["a", "x"], "b", Vec::new())],
        attribute_proto: vec![AttributeProto {
            name: "by".to_owned(),
            r#type: AttributeProto::FLOAT,
            f: 3.0,
            ..AttributeProto::default()
        }],
        ..FunctionProto::default()
    }
}

fn with_functions(file: &Onnx, functions: Vec<FunctionProto>) -> Result<Model, String> {
    let mut proto = file.proto();
    let graph: &mut GraphProto = proto.graph.as_mut().unwrap();
    for node in graph.node.iter_mut().filter(|node| node.op_type == "Scaled") {
        "custom".clone_into(&mut node.domain);
    }
    proto.functions = functions;
    Model::parse(proto.encode_to_vec().into(), "test").map_err(|error| error.to_string())
}

#[test]
fn a_function_of_the_model_is_called_with_its_attributes() {
    let by = ("by", Value::Float(0.5));
    let file = Onnx::new(17)
        .input("x", FLOAT, &[2])
        .node_with("Scaled", &["x"], "half", &[by])
        .node("Scaled", &["half"], "y")
        .output("y");
    let model = with_functions(&file, vec![scaled()]).unwrap();
    let Some(session) = session(model) else { return };
    let y = run(&session, &[("x", floats(&[2.0, -4.0]))]).unwrap();
    assert_eq!(y[0].to_vec::<f32>().unwrap(), [3.0, -6.0]);
}

#[test]
fn functions_that_call_themselves_are_refused() {
    let mut endless = scaled();
    "Scaled".clone_into(&mut endless.node[1].op_type);
    "custom".clone_into(&mut endless.node[1].domain);
    endless.node[1].input.truncate(1);
    let file = Onnx::new(17).input("x", FLOAT, &[2]).node("Scaled", &["x"], "y").output("y");
    let error = with_functions(&file, vec![endless]).unwrap_err();
    assert!(error.contains("functions call each other"), "{error}");
}
