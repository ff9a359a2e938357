//! Operators on constants, against results worked by hand: no device takes part.

use gw_tensor::{DType, Tensor};

use crate::onnx::{INT64, Onnx, Value};
use crate::run::constants;

/// `op` over integers `x` of a shape, and further inputs; the result as shape and elements.
struct Case {
    op: &'static str,
    x: (&'static [i64], &'static [i64]),
    further: &'static [&'static [i64]],
    attributes: Vec<(&'static str, Value)>,
    due: (&'static [usize], &'static [i64]),
}

fn result(case: &Case) -> Tensor {
    let names: Vec<String> = (0..case.further.len()).map(|at| format!("further {at}")).collect();
    let mut file = Onnx::new(17).ints("flat", case.x.1).ints("dims", case.x.0);
    for (name, data) in names.iter().zip(case.further) {
        file = file.ints(name, data);
    }
    let mut inputs = vec!["x"];
    inputs.extend(names.iter().map(String::as_str));
    let file = file
        .node("Reshape", &["flat", "dims"], "x")
        .node_with(case.op, &inputs, "y", &case.attributes)
        .output("y");
    constants(&file.model()).remove(0)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn operators_on_constants_give_hand_worked_results() {
    let ints = |values: &[i64]| Value::Ints(values.to_vec());
    let cases = [
        Case {
            op: "Slice",
            x: (&[2, 4], &[0, 1, 2, 3, 4, 5, 6, 7]),
            further: &[&[-1], &[i64::MIN], &[1], &[-2]],
            attributes: vec![],
            due: (&[2, 2], &[3, 1, 7, 5]),
        },
        Case {
            op: "Slice",
            x: (&[5], &[0, 1, 2, 3, 4]),
            further: &[&[-100], &[100], &[0], &[i64::MAX]],
            attributes: vec![],
            due: (&[1], &[0]),
        },
        Case {
            op: "Transpose",
            x: (&[2, 3], &[0, 1, 2, 3, 4, 5]),
            further: &[],
            attributes: vec![],
            due: (&[3, 2], &[0, 3, 1, 4, 2, 5]),
        },
        Case {
            op: "Tile",
            x: (&[2, 2], &[0, 1, 2, 3]),
            further: &[&[2, 2]],
            attributes: vec![],
            due: (&[4, 4], &[0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3]),
        },
        Case {
            op: "Expand",
            x: (&[2, 1], &[5, 6]),
            further: &[&[2, 1, 3]],
            attributes: vec![],
            due: (&[2, 2, 3], &[5, 5, 5, 6, 6, 6, 5, 5, 5, 6, 6, 6]),
        },
        Case {
            op: "Pad",
            x: (&[4], &[0, 1, 2, 3]),
            further: &[&[2, 3]],
            attributes: vec![("mode", Value::Text("reflect"))],
            due: (&[9], &[2, 1, 0, 1, 2, 3, 2, 1, 0]),
        },
        Case {
            op: "Pad",
            x: (&[3], &[7, 8, 9]),
            further: &[&[1, 2]],
            attributes: vec![("mode", Value::Text("edge"))],
            due: (&[6], &[7, 7, 8, 9, 9, 9]),
        },
        Case {
            op: "Gather",
            x: (&[3, 2], &[0, 1, 2, 3, 4, 5]),
            further: &[&[-1, 0, 0]],
            attributes: vec![],
            due: (&[3, 2], &[4, 5, 0, 1, 0, 1]),
        },
        Case {
            op: "GatherND",
            x: (&[2, 3], &[0, 1, 2, 3, 4, 5]),
            further: &[&[1, -1]],
            attributes: vec![],
            due: (&[], &[5]),
        },
        Case {
            op: "ReduceProd",
            x: (&[2, 3], &[1, 2, 3, 4, 5, 6]),
            further: &[],
            attributes: vec![("axes", ints(&[0])), ("keepdims", Value::Int(0))],
            due: (&[3], &[4, 10, 18]),
        },
        Case {
            op: "ReduceMax",
            x: (&[2, 2, 2], &[1, 9, 3, 4, 5, 6, 7, 8]),
            further: &[],
            attributes: vec![("axes", ints(&[0, 2]))],
            due: (&[1, 2, 1], &[9, 8]),
        },
        Case {
            op: "SpaceToDepth",
            x: (&[1, 1, 2, 4], &[0, 1, 2, 3, 4, 5, 6, 7]),
            further: &[],
            attributes: vec![("blocksize", Value::Int(2))],
            due: (&[1, 4, 1, 2], &[0, 2, 1, 3, 4, 6, 5, 7]),
        },
        Case {
            op: "Mod",
            x: (&[4], &[-7, 7, -8, 8]),
            further: &[&[3]],
            attributes: vec![],
            due: (&[4], &[2, 1, 1, 2]),
        },
        Case {
            op: "Mul",
            x: (&[1], &[3_000_000_000]),
            further: &[&[3_000_000_000]],
            attributes: vec![],
            due: (&[1], &[9_000_000_000_000_000_000]),
        },
        Case {
            op: "Cast",
            x: (&[3], &[300, -129, 127]),
            further: &[],
            attributes: vec![("to", Value::Int(INT64.into()))],
            due: (&[3], &[300, -129, 127]),
        },
        Case {
            op: "Flatten",
            x: (&[2, 1, 3], &[0, 1, 2, 3, 4, 5]),
            further: &[],
            attributes: vec![("axis", Value::Int(-1))],
            due: (&[2, 3], &[0, 1, 2, 3, 4, 5]),
        },
    ];
    for case in &cases {
        let result = result(case);
        assert_eq!(result.shape().dims(), case.due.0, "the shape of {}", case.op);
        assert_eq!(result.to_vec::<i64>().unwrap(), case.due.1, "{}", case.op);
    }
}

#[test]
fn a_narrowing_cast_wraps() {
    let file = Onnx::new(17)
        .ints("x", &[300, -129, 127])
        .node_with("Cast", &["x"], "y", &[("to", Value::Int(3))])
        .output("y");
    let result = constants(&file.model()).remove(0);
    assert_eq!(result.dtype(), DType::I8);
    assert_eq!(result.to_vec::<i8>().unwrap(), [44, 127, 127]);
}

#[test]
fn the_branch_that_is_not_taken_is_not_planned() {
    let branch = |op: &str| Onnx::new(17).node(op, &["x", "x"], "inner").output("inner").graph;
    let file = Onnx::new(17)
        .ints("x", &[4, 5])
        .ints("two", &[2])
        .node_with("Size", &["x"], "size", &[])
        .node("Equal", &["size", "two"], "is two")
        .node_with(
            "If",
            &["is two"],
            "y",
            &[
                ("then_branch", Value::Graph(branch("Mul"))),
                ("else_branch", Value::Graph(branch("Sub"))),
            ],
        )
        .output("y");
    assert_eq!(constants(&file.model())[0].to_vec::<i64>().unwrap(), [16, 25]);
}

#[test]
fn a_splat_stays_one_element() {
    // 2^28 elements: far beyond what may be folded, were they written out.
    let file = Onnx::new(17)
        .ints("dims", &[1 << 14, 1 << 14])
        .ints("at", &[3])
        .node("ConstantOfShape", &["dims"], "zeros")
        .node("Exp", &["zeros"], "ones")
        .node_with("Gather", &["ones", "at"], "row", &[])
        .node_with("Gather", &["row", "at"], "y", &[("axis", Value::Int(1))])
        .output("y");
    assert_eq!(constants(&file.model())[0].to_vec::<f32>().unwrap(), [1.0]);
}
