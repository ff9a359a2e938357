//! Every node of a model is found in its plan, with what became of it.

use gw_engine::plan::why::{Fate, Reason, Why};
use gw_engine::{Model, PlanOptions};

use crate::fusions::layer_norm;
use crate::onnx::{FLOAT, Onnx, Value};
use crate::run::{floats, plan};

fn model() -> Model {
    layer_norm(Onnx::new(17))
        .weights("w", &[16, 16])
        .weights("b", &[16])
        .node("MatMul", &["normed", "w"], "product")
        .node("Add", &["product", "b"], "biased")
        .node("Relu", &["biased"], "active")
        .node("Shape", &["x"], "shape")
        .node("Reshape", &["active", "shape"], "y")
        .node("Exp", &["x"], "nobody")
        .output("y")
        .model()
}

#[test]
fn every_node_of_a_model_is_found_in_its_plan() {
    let model = model();
    let plan = plan(&model, &[floats("x", &[2, 3, 16])], PlanOptions::default());
    let steps: Vec<String> = plan
        .steps
        .iter()
        .map(|step| {
            let nodes: Vec<&str> = step.nodes.iter().map(|node| node.op.as_str()).collect();
            format!("{}: {}", step.dispatch.kernel.name, nodes.join(" "))
        })
        .collect();
    assert_eq!(
        steps,
        ["norm: ReduceMean Sub Pow ReduceMean Add Sqrt Div", "gemm: MatMul Add Relu"]
    );
    let fates: Vec<(&str, &Fate)> =
        plan.elsewhere.iter().map(|entry| (entry.node.op.as_str(), &entry.fate)).collect();
    assert_eq!(
        fates,
        [
            ("Shape", &Fate::Folded),
            ("Reshape", &Fate::View("active".to_owned())),
            ("Exp", &Fate::Unread)
        ]
    );
    let nodes = plan.steps.iter().map(|step| step.nodes.len()).sum::<usize>();
    assert_eq!(nodes + fates.len(), model.graph().nodes.len());
}

#[test]
fn a_step_says_what_chose_its_variant() {
    let plan = plan(&model(), &[floats("x", &[2, 3, 16])], PlanOptions::default());
    let product = &plan.steps[1].choice;
    assert_eq!(product.reason, Reason::Default);
    assert!(!product.alternatives.is_empty());
    let alone = plan.steps.iter().find(|step| step.choice.alternatives.is_empty());
    assert!(alone.is_none_or(|step| step.choice.reason == Reason::Only));
    let text = Why(&plan.summary()).to_string();
    for part in [
        "      variant: the default for this class of adapter; open: ",
        "(MatMul)\n",
        "a view of active\n",
        "folded into a constant\n",
        "nothing reads it\n",
        "2 dispatches",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn a_branch_is_written_out() {
    let branch = |op: &str| {
        let file = Onnx::new(17).node(op, &["x"], "inside").output("inside");
        Value::Graph(file.graph)
    };
    let branches = [("then_branch", branch("Exp")), ("else_branch", branch("Neg"))];
    let model = Onnx::new(17)
        .input("x", FLOAT, &[4])
        .ints("yes", &[1])
        .node_with("Cast", &["yes"], "condition", &[("to", Value::Int(9))])
        .node_with("If", &["condition"], "y", &branches)
        .output("y")
        .model();
    let plan = plan(&model, &[floats("x", &[4])], PlanOptions::default());
    let fates: Vec<_> = plan.elsewhere.iter().map(|entry| &entry.fate).collect();
    assert_eq!(fates, [&Fate::Folded, &Fate::WrittenOut]);
    assert_eq!(plan.steps[0].nodes[0].op, "Exp");
}
