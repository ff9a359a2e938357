//! Which models keep the rows of a batch apart: what is shown on the graph, and what runs say.

use std::collections::BTreeMap;
use std::sync::Arc;

use gw_engine::{Interpreter, Model, PlanOptions};
use gw_tensor::{Shape, Tensor};

use crate::onnx::{FLOAT, Onnx, Value, noise};

/// Of a row of the input `x`.
const ROW: [usize; 2] = [4, 6];

/// `x [rows, 4, 6]` goes in.
fn model(opset: i64) -> Onnx {
    Onnx::new(opset).input("x", FLOAT, &[-1, 4, 6]).output("y")
}

fn is_shown(model: &Model) -> bool {
    let row = Shape::from([&[1], &ROW[..]].concat());
    model.rows_are_independent(&BTreeMap::from([("x".to_owned(), row)]))
}

/// Whether three rows in one run give what each gives alone.
fn is_seen(model: Model) -> bool {
    let interpreter = Interpreter::new(Arc::new(model), PlanOptions::default());
    let size: usize = ROW.iter().product();
    let run = |rows: usize, data: &[f32]| -> Option<Vec<f32>> {
        let x = Tensor::from_slice([rows, ROW[0], ROW[1]], data).unwrap();
        let outputs = interpreter.run(&[("x".to_owned(), x)]).ok()?;
        let y = &outputs[0].1;
        (y.shape().first() == Some(&rows)).then(|| match y.dtype() {
            gw_tensor::DType::F32 => y.to_vec::<f32>().unwrap(),
            _ => y.to_vec::<i64>().unwrap().iter().map(|&value| value as f32).collect(),
        })
    };
    let mut data = noise("rows", 3 * size);
    // Of very different sizes.
    for (row, scale) in data.chunks_mut(size).zip([1.0, 100.0, 0.01]) {
        for value in row {
            *value *= scale;
        }
    }
    let alone: Option<Vec<Vec<f32>>> = data.chunks(size).map(|row| run(1, row)).collect();
    let (Some(alone), Some(joined)) = (alone, run(3, &data)) else { return false };
    let alone = alone.concat();
    let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * a.abs().max(1e-3);
    alone.len() == joined.len() && alone.iter().zip(&joined).all(is_near)
}

fn ints(values: &[i64]) -> Value {
    Value::Ints(values.to_vec())
}

/// An LSTM of three units over `x`, whose leading axis is time where `layout` is 0.
fn lstm(x: &str, layout: i64) -> Onnx {
    let model = model(14).weights("w", &[1, 12, 6]).weights("r", &[1, 12, 3]);
    let attributes = [("hidden_size", Value::Int(3)), ("layout", Value::Int(layout))];
    model.node_with("LSTM", &[x, "w", "r"], "all", &attributes)
}

/// They are shown to keep their rows apart, and runs say so too.
fn apart(cases: impl IntoIterator<Item = (&'static str, Onnx)>) {
    for (name, file) in cases {
        assert!(is_shown(&file.model()), "{name}: not shown");
        assert!(is_seen(file.model()), "{name}: runs differ");
    }
}

/// They are not taken for such, and runs show why.
fn not_apart(cases: impl IntoIterator<Item = (&'static str, Onnx)>) {
    for (name, file) in cases {
        assert!(!is_shown(&file.model()), "{name}: shown");
        assert!(!is_seen(file.model()), "{name}: no run differs");
    }
}

#[test]
fn layers_that_keep_rows_apart_are_shown_to() {
    apart([
        (
            "a product and a norm",
            model(17)
                .weights("w", &[6, 5])
                .floats("s", &[5], &[1.0; 5])
                .node("MatMul", &["x", "w"], "a")
                .node("LayerNormalization", &["a", "s"], "y"),
        ),
        (
            "attention",
            model(17)
                .weights("w", &[6, 6])
                .node("MatMul", &["x", "w"], "q")
                .node_with("Transpose", &["x"], "k", &[("perm", ints(&[0, 2, 1]))])
                .node("MatMul", &["q", "k"], "s")
                .node_with("Softmax", &["s"], "p", &[("axis", Value::Int(-1))])
                .node("MatMul", &["p", "x"], "y"),
        ),
        (
            "heads by reshapes of computed sizes",
            model(17)
                .node("Shape", &["x"], "shape")
                .ints("zero", &[0])
                .node("Gather", &["shape", "zero"], "rows")
                .ints("tail", &[4, 2, 3])
                .node_with("Concat", &["rows", "tail"], "split", &[("axis", Value::Int(0))])
                .node("Reshape", &["x", "split"], "heads")
                .node_with("Transpose", &["heads"], "turned", &[("perm", ints(&[0, 2, 1, 3]))])
                .node_with("Softmax", &["turned"], "y", &[("axis", Value::Int(-1))]),
        ),
        (
            "rows and steps in one axis",
            model(17)
                .ints("flat", &[-1, 6])
                .ints("back", &[-1, 24])
                .weights("w", &[6, 6])
                .node("Reshape", &["x", "flat"], "f")
                .node("MatMul", &["f", "w"], "g")
                .node("Relu", &["g"], "h")
                .node("Reshape", &["h", "back"], "y"),
        ),
        (
            "a convolution",
            model(17)
                .ints("image", &[-1, 1, 4, 6])
                .weights("w", &[3, 1, 3, 3])
                .node("Reshape", &["x", "image"], "i")
                .node("Conv", &["i", "w"], "c")
                .node("GlobalAveragePool", &["c"], "p")
                .node("Flatten", &["p"], "y"),
        ),
    ]);
}

#[test]
fn axes_beside_the_rows_may_be_summed_walked_and_joined() {
    apart([
        (
            "a maximum of each row",
            model(13).node_with("ReduceMax", &["x"], "m", &[("axes", ints(&[1, 2]))]).node(
                "Sub",
                &["x", "m"],
                "y",
            ),
        ),
        (
            "a token before the others",
            model(17)
                .weights("token", &[1, 1, 6])
                .ints("zero", &[0])
                .node("Shape", &["x"], "shape")
                .node("Gather", &["shape", "zero"], "rows")
                .ints("tail", &[1, 6])
                .node_with("Concat", &["rows", "tail"], "wide", &[("axis", Value::Int(0))])
                .node("Expand", &["token", "wide"], "tokens")
                .node_with("Concat", &["tokens", "x"], "y", &[("axis", Value::Int(1))]),
        ),
        ("time in the second axis", lstm("x", 1).node("Identity", &["all"], "y")),
        (
            "time is turned to the front",
            model(14)
                .weights("w", &[1, 12, 6])
                .weights("r", &[1, 12, 3])
                .node_with("Transpose", &["x"], "t", &[("perm", ints(&[1, 0, 2]))])
                .node_with("LSTM", &["t", "w", "r"], "all", &[("hidden_size", Value::Int(3))])
                .node_with("Transpose", &["all"], "y", &[("perm", ints(&[2, 0, 1, 3]))]),
        ),
        (
            "the largest of each row",
            model(13).node_with("ArgMax", &["x"], "y", &[("axis", Value::Int(2))]),
        ),
        ("sums along a row", model(14).ints("axis", &[1]).node("CumSum", &["x", "axis"], "y")),
    ]);
}

fn axis(axis: i64) -> [(&'static str, Value); 1] {
    [("axis", Value::Int(axis))]
}

#[test]
fn models_that_sum_or_walk_along_the_rows_are_not_taken_for_others() {
    not_apart([
        ("time in the leading axis", lstm("x", 0).node("Identity", &["all"], "y")),
        (
            "one maximum for all",
            model(13).node("ReduceMax", &["x"], "m").node("Sub", &["x", "m"], "y"),
        ),
        (
            "a mean over rows",
            model(13).node_with("ReduceMean", &["x"], "m", &[("axes", ints(&[0]))]).node(
                "Sub",
                &["x", "m"],
                "y",
            ),
        ),
        ("shares over rows", model(13).node_with("Softmax", &["x"], "y", &axis(0))),
        (
            "attention over rows",
            model(17)
                .node_with("Transpose", &["x"], "a", &[("perm", ints(&[1, 0, 2]))])
                .node_with("Transpose", &["x"], "b", &[("perm", ints(&[1, 2, 0]))])
                .node("MatMul", &["a", "b"], "s")
                .node_with("Softmax", &["s"], "p", &axis(-1))
                .node("MatMul", &["p", "a"], "o")
                .node_with("Transpose", &["o"], "y", &[("perm", ints(&[1, 0, 2]))]),
        ),
    ]);
}

#[test]
fn models_that_pick_count_or_reorder_rows_are_not_taken_for_others() {
    not_apart([
        (
            "rows in another order",
            model(13).ints("from", &[-1]).ints("to", &[i64::MIN + 1]).ints("axis", &[0]).node(
                "Slice",
                &["x", "from", "to", "axis", "from"],
                "y",
            ),
        ),
        ("sums along the rows", model(14).ints("axis", &[0]).node("CumSum", &["x", "axis"], "y")),
        (
            "sorted rows",
            model(13)
                .node("Shape", &["x"], "shape")
                .ints("zero", &[0])
                .node("Gather", &["shape", "zero"], "k")
                .node_with("TopK", &["x", "k"], "y,", &axis(0)),
        ),
        (
            "less the first row",
            model(13)
                .ints("from", &[0])
                .ints("to", &[1])
                .ints("axis", &[0])
                .node("Slice", &["x", "from", "to", "axis"], "first")
                .node("Sub", &["x", "first"], "y"),
        ),
        (
            "over how many rows there are",
            model(13)
                .node("Shape", &["x"], "shape")
                .ints("zero", &[0])
                .node("Gather", &["shape", "zero"], "rows")
                .node_with("Cast", &["rows"], "n", &[("to", Value::Int(1))])
                .node("Div", &["x", "n"], "y"),
        ),
        (
            "one scale for all",
            model(13).node("DynamicQuantizeLinear", &["x"], "q,s,z").node(
                "DequantizeLinear",
                &["q", "s", "z"],
                "y",
            ),
        ),
        (
            "rows that become steps",
            model(13)
                .ints("other", &[4, -1, 6])
                .ints("back", &[-1, 4, 6])
                .node("Reshape", &["x", "other"], "o")
                .node_with("Softmax", &["o"], "s", &axis(0))
                .node("Reshape", &["s", "back"], "y"),
        ),
    ]);
}

/// `x` less its mean over the rows, where the size of this axis of `x` is more than that.
fn beyond(file: Onnx, axis: i64, size: i64) -> Onnx {
    let mean = [("axes", ints(&[0]))];
    let then = Onnx::new(13).output("t").node_with("ReduceMean", &["x"], "m", &mean);
    let branches = [
        ("then_branch", Value::Graph(then.node("Sub", &["x", "m"], "t").graph)),
        (
            "else_branch",
            Value::Graph(Onnx::new(13).output("e").node("Identity", &["x"], "e").graph),
        ),
    ];
    file.ints("axis", &[axis])
        .ints("size", &[size])
        .node("Shape", &["x"], "shape")
        .node("Gather", &["shape", "axis"], "now")
        .node("Greater", &["now", "size"], "is_more")
        .node_with("If", &["is_more"], "y", &branches)
}

#[test]
fn what_a_model_does_with_more_rows_or_longer_ones_is_seen() {
    for (size, due) in [(1, false), (3, false), (40, false), (1000, true)] {
        assert_eq!(is_shown(&beyond(model(13), 0, size).model()), due, "more than {size} rows");
    }
    // With one row there is no axis of rows left, and with more there is.
    let squeezed = model(13).node("Squeeze", &["x"], "y");
    assert!(!is_shown(&squeezed.model()), "without axes of one element");
    let free = || Onnx::new(13).input("x", FLOAT, &[-1, -2, 6]).output("y");
    for (size, due) in [(3, false), (50, false), (1000, true)] {
        assert_eq!(is_shown(&beyond(free(), 1, size).model()), due, "rows longer than {size}");
    }
}

#[test]
fn numbers_for_the_places_of_rows_are_seen() {
    // A mask by row of the batch, the same for all and not.
    for (mask, due) in [([1.0f32, 1.0, 1.0], true), ([1.0, 2.0, 3.0], false)] {
        let file = model(13)
            .floats("mask", &[3, 1, 1], &mask)
            .ints("from", &[0])
            .ints("axis", &[0])
            .node("Shape", &["x"], "shape")
            .ints("zero", &[0])
            .node("Gather", &["shape", "zero"], "rows")
            .node("Slice", &["mask", "from", "rows", "axis"], "part")
            .node("Mul", &["x", "part"], "y");
        assert_eq!(is_shown(&file.model()), due);
    }
}
