//! Positions, order and scattering: results worked by hand, on the device and on constants.

use std::sync::Arc;

use gw_engine::PlanOptions;
use gw_tensor::Tensor;

use crate::onnx::{FLOAT, INT64, Onnx, Value};
use crate::run::{constants, run};

fn float(name: &str, dims: &[usize], data: &[f32]) -> (String, Tensor) {
    (name.to_owned(), Tensor::from_slice(dims, data).unwrap())
}

fn int(name: &str, dims: &[usize], data: &[i64]) -> (String, Tensor) {
    (name.to_owned(), Tensor::from_slice(dims, data).unwrap())
}

fn outputs(file: &Onnx, inputs: &[(String, Tensor)]) -> Option<Vec<Tensor>> {
    let outputs = run(&Arc::new(file.model()), inputs, PlanOptions::default())?;
    Some(outputs.into_iter().map(|(_, tensor)| tensor).collect())
}

fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor.shape().iter().copied().collect()
}

#[test]
fn of_equals_the_first_comes_first_on_an_axis_of_several_blocks() {
    let attributes = [("axis", Value::Int(0))];
    let file = Onnx::new(13)
        .input("x", FLOAT, &[100, 2])
        .ints("k", &[5])
        .node_with("TopK", &["x", "k"], "values,places", &attributes)
        .output("values")
        .output("places");
    // Column 0 counts from 0 to 6 over and over, column 1 falls.
    let data: Vec<f32> =
        (0..200).map(|at| if at % 2 == 0 { (at / 2 % 7) as f32 } else { -at as f32 }).collect();
    let Some(given) = outputs(&file, &[float("x", &[100, 2], &data)]) else { return };
    let values = [6.0, -1.0, 6.0, -3.0, 6.0, -5.0, 6.0, -7.0, 6.0, -9.0];
    assert_eq!(given[0].to_vec::<f32>().unwrap(), values);
    assert_eq!(given[1].to_vec::<i64>().unwrap(), [6, 0, 13, 1, 20, 2, 27, 3, 34, 4]);
}

#[test]
fn an_update_outside_writes_nothing_and_repeated_ones_are_all_taken() {
    let scatter = |reduction| {
        let attributes = [("reduction", Value::Text(reduction))];
        Onnx::new(18)
            .input("data", FLOAT, &[2, 3])
            .input("indices", INT64, &[4, 2])
            .input("updates", FLOAT, &[4])
            .node_with("ScatterND", &["data", "indices", "updates"], "y", &attributes)
            .output("y")
    };
    let inputs = [
        float("data", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        // (0, 4) would be (1, 1) if it were not outside.
        int("indices", &[4, 2], &[1, -1, 0, 4, 1, 2, -2, 0]),
        float("updates", &[4], &[10.0, 20.0, 30.0, 40.0]),
    ];
    let Some(given) = outputs(&scatter("add"), &inputs) else { return };
    assert_eq!(given[0].to_vec::<f32>().unwrap(), [41.0, 2.0, 3.0, 4.0, 5.0, 46.0]);
    let given = outputs(&scatter("none"), &inputs).unwrap();
    assert_eq!(given[0].to_vec::<f32>().unwrap(), [40.0, 2.0, 3.0, 4.0, 5.0, 30.0]);
    let given = outputs(&scatter("max"), &inputs).unwrap();
    assert_eq!(given[0].to_vec::<f32>().unwrap(), [40.0, 2.0, 3.0, 4.0, 5.0, 30.0]);
}

#[test]
fn a_tuple_outside_gathers_zero_and_not_another_element() {
    let file = Onnx::new(13)
        .input("data", FLOAT, &[2, 3])
        .input("indices", INT64, &[3, 2])
        .node("GatherND", &["data", "indices"], "y")
        .output("y");
    let inputs = [
        float("data", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        int("indices", &[3, 2], &[0, 4, 1, -1, 0, -4]),
    ];
    let Some(given) = outputs(&file, &inputs) else { return };
    assert_eq!(given[0].to_vec::<f32>().unwrap(), [0.0, 6.0, 0.0]);
}

#[test]
fn bits_that_are_read_as_integers_are_not_those_of_a_fused_float() {
    // INT32 is 6.
    let file = Onnx::new(26)
        .input("x", FLOAT, &[2])
        .node("Abs", &["x"], "size")
        .node_with("BitCast", &["size"], "bits", &[("to", Value::Int(6))])
        .node("Neg", &["bits"], "y")
        .output("y");
    let Some(given) = outputs(&file, &[float("x", &[2], &[-1.0, 2.0])]) else { return };
    assert_eq!(given[0].to_vec::<i32>().unwrap(), [-0x3f80_0000, -0x4000_0000]);
}

#[test]
fn a_diagonal_may_be_known_only_during_the_run() {
    let file = Onnx::new(14)
        .input("x", INT64, &[2, 3])
        .input("k", INT64, &[])
        .node_with("Trilu", &["x", "k"], "y", &[("upper", Value::Int(0))])
        .output("y");
    let x = int("x", &[2, 3], &[1, 2, 3, 4, 5, 6]);
    let Some(given) = outputs(&file, &[x, int("k", &[], &[-1])]) else { return };
    assert_eq!(given[0].to_vec::<i64>().unwrap(), [0, 0, 0, 4, 0, 0]);
}

#[test]
fn sums_of_products_take_any_equation() {
    let cases: [(&str, &[usize], &[f32]); 4] = [
        ("ij,jk->ik", &[2, 2], &[2.0, 3.0, 6.0, 11.0]),
        ("ij,jk", &[2, 2], &[2.0, 3.0, 6.0, 11.0]),
        ("ii,jj->ij", &[2, 2], &[0.0, 0.0, 0.0, 9.0]),
        ("i...,i...->...", &[2], &[4.0, 10.0]),
    ];
    for (equation, dims, due) in cases {
        let attributes = [("equation", Value::Text(equation))];
        let file = Onnx::new(12)
            .input("a", FLOAT, &[2, 2])
            .input("b", FLOAT, &[2, 2])
            .node_with("Einsum", &["a", "b"], "y", &attributes)
            .output("y");
        let data = [0.0, 1.0, 2.0, 3.0];
        let inputs = [float("a", &[2, 2], &data), float("b", &[2, 2], &data)];
        let Some(given) = outputs(&file, &inputs) else { return };
        assert_eq!(shape(&given[0]), dims, "{equation}");
        assert_eq!(given[0].to_vec::<f32>().unwrap(), due, "{equation}");
    }
}

#[test]
fn what_is_known_before_the_run_is_selected_then() {
    let file = Onnx::new(13)
        .ints("x", &[3, 0, 1, 3, 0, 3])
        .node("NonZero", &["x"], "places")
        .node("Unique", &["x"], "values,first,inverse,counts")
        .output("places")
        .output("values")
        .output("first")
        .output("inverse")
        .output("counts");
    let given = constants(&file.model());
    assert_eq!(shape(&given[0]), [1, 4]);
    let numbers = |at: usize| given[at].to_vec::<i64>().unwrap();
    assert_eq!(numbers(0), [0, 2, 3, 5]);
    assert_eq!(numbers(1), [0, 1, 3]);
    assert_eq!(numbers(2), [1, 2, 0]);
    assert_eq!(numbers(3), [2, 0, 1, 2, 0, 2]);
    assert_eq!(numbers(4), [2, 1, 3]);
}

#[test]
fn boxes_that_cover_a_better_one_are_left_out() {
    // Boxes 0 and 1 share 2 of 4 of what they cover, box 2 lies apart, box 3 scores too little.
    let boxes =
        [[0.0, 0.0, 1.0, 3.0], [0.0, 1.0, 1.0, 4.0], [5.0, 6.0, 6.0, 5.0], [9.0, 9.0, 10.0, 10.0]];
    let file = Onnx::new(11)
        .floats("boxes", &[1, 4, 4], boxes.as_flattened())
        .floats("scores", &[1, 1, 4], &[0.5, 0.9, 0.5, 0.1])
        .ints("most", &[9])
        .floats("overlap", &[1], &[0.45])
        .floats("least", &[1], &[0.2])
        .node("NonMaxSuppression", &["boxes", "scores", "most", "overlap", "least"], "y")
        .output("y");
    let given = constants(&file.model()).remove(0);
    assert_eq!(shape(&given), [2, 3]);
    assert_eq!(given.to_vec::<i64>().unwrap(), [0, 0, 1, 0, 0, 2]);
}

#[test]
fn rows_of_more_elements_than_a_software_adapter_takes_turns_lose_nothing() {
    let (count, wide) = (200_001, 200_001i64);
    let last = [("select_last_index", Value::Int(1)), ("keepdims", Value::Int(0))];
    let backwards = [("reverse", Value::Int(1)), ("exclusive", Value::Int(1))];
    let file = Onnx::new(18)
        .input("x", INT64, &[2, wide])
        .ints("axis", &[1])
        .node("ReduceSum", &["x", "axis"], "sum")
        .node("ReduceMax", &["x", "axis"], "most")
        .node_with("ArgMin", &["x"], "first", &[("axis", Value::Int(1))])
        .node_with("Transpose", &["x"], "turned", &[("perm", Value::Ints(vec![1, 0]))])
        .node_with("ArgMax", &["turned"], "last", &last)
        .node_with("CumSum", &["x", "axis"], "sums", &backwards)
        .output("sum")
        .output("most")
        .output("first")
        .output("last")
        .output("sums");
    // Row 0 is 1 but for a 0 at its end and a 5 near it, row 1 is its negative.
    let row = |at: usize| match at {
        200_000 => 0,
        150_000 => 5,
        _ => 1,
    };
    let data: Vec<i64> =
        (0..2 * count).map(|at| if at < count { row(at) } else { -row(at - count) }).collect();
    let Some(given) = outputs(&file, &[int("x", &[2, count], &data)]) else { return };
    let numbers = |at: usize| given[at].to_vec::<i64>().unwrap();
    assert_eq!(numbers(0), [200_004, -200_004]);
    assert_eq!(numbers(1), [5, 0]);
    assert_eq!(numbers(2), [200_000, 150_000]);
    assert_eq!(numbers(3), [150_000, 200_000]);
    let sums = numbers(4);
    assert_eq!((sums[0], sums[150_000], sums[199_999]), (200_003, 49_999, 0));
    assert_eq!((sums[count], sums[2 * count - 1]), (-200_003, 0));
}

#[test]
fn a_mean_over_a_large_image_is_that_of_all_its_pixels() {
    let file = Onnx::new(18)
        .input("x", FLOAT, &[1, 1, 400, 400])
        .node("GlobalAveragePool", &["x"], "mean")
        .node_with("Softmax", &["flat"], "shares", &[("axis", Value::Int(0))])
        .ints("all", &[-1])
        .node("Reshape", &["x", "all"], "flat")
        .node("ReduceSum", &["shares"], "one")
        .output("mean")
        .output("one");
    let data: Vec<f32> = (0..160_000).map(|at| if at < 80_000 { 0.0 } else { 1.0 }).collect();
    let Some(given) = outputs(&file, &[float("x", &[1, 1, 400, 400], &data)]) else { return };
    let number = |at: usize| given[at].to_vec::<f32>().unwrap()[0];
    assert!((number(0) - 0.5).abs() < 1e-5, "{}", number(0));
    assert!((number(1) - 1.0).abs() < 1e-4, "{}", number(1));
}
