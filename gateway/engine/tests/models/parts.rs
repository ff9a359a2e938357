//! Weights that no binding of the adapter holds: split plans say what whole ones say.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gw_engine::onnx::proto::TensorProto;
use gw_engine::plan::memory::{MemoryLimits, plan_memory};
use gw_engine::plan::{BufferKind, Plan};
use gw_engine::{Model, PlanOptions, Session, SessionOptions};
use gw_shaders::kernel::Caps;
use gw_tensor::{Shape, Tensor};

use crate::device::shared;
use crate::fusions::rows_of_bytes;
use crate::onnx::{FLOAT, INT64, Onnx, Value};
use crate::run::{error, floats, run, shapes};

type Inputs = [(String, Tensor)];

fn limited(model: &Model, inputs: &Inputs, binding_bytes: u64) -> Result<Plan, String> {
    let caps = shared().map_or(Caps::minimal(), |device| device.caps());
    let caps = Caps { binding_bytes, ..caps };
    let plan = model.plan(&shapes(inputs), &caps, &PlanOptions::default());
    let plan = plan.map_err(|error| error.to_string())?;
    plan.verify().unwrap();
    Ok(plan)
}

fn largest_weight(plan: &Plan) -> u64 {
    let is_weight = |kind: &BufferKind| matches!(kind, BufferKind::Weight { .. });
    plan.buffers.iter().filter(|b| is_weight(&b.kind)).map(|b| b.bytes).max().unwrap_or(0)
}

fn outputs(plan: Plan, inputs: &Inputs) -> Option<Vec<(String, Tensor)>> {
    let session = Session::from_plan(plan, shared()?, SessionOptions::default());
    Some(session.run(inputs).unwrap())
}

/// With every limit the plan has as many steps as said, holds it, and gives what a plan without
/// limits gives, but for `tolerance` of the largest value.
fn agree(file: &Onnx, inputs: &Inputs, limits: &[(u64, usize)], tolerance: f32) {
    let model = file.model();
    let whole = limited(&model, inputs, u64::MAX).unwrap();
    let due = outputs(whole, inputs);
    for &(limit, steps) in limits {
        let plan = limited(&model, inputs, limit).unwrap();
        assert_eq!(plan.steps.len(), steps, "with bindings of {limit} bytes: {plan}");
        assert!(largest_weight(&plan) <= limit, "with bindings of {limit} bytes: {plan}");
        let (Some(due), Some(given)) = (&due, outputs(plan, inputs)) else { continue };
        for ((_, given), (_, due)) in given.iter().zip(due) {
            let error = if tolerance == 0.0 {
                if given.bytes() == due.bytes() { 0.0 } else { 1.0 }
            } else {
                error(given, due)
            };
            assert!(error <= tolerance, "{error} with bindings of {limit} bytes");
        }
    }
}

#[test]
fn a_product_is_split_by_columns_then_by_k() {
    // Four tiles of 64 columns, of 33 k each.
    let tile = 64 * 33 * 4;
    let file = Onnx::new(17)
        .input("x", FLOAT, &[-1, 33])
        .input("r", FLOAT, &[-1, 200])
        .weights("w", &[33, 200])
        .weights("b", &[200])
        .node("MatMul", &["x", "w"], "a")
        .node("Add", &["a", "b"], "s")
        .node("Relu", &["s"], "t")
        .node("Add", &["t", "r"], "y")
        .output("y");
    let limits = [
        (4 * tile, 1),
        (4 * tile - 1, 2),
        (2 * tile + 1, 2),
        (2 * tile, 2),
        (2 * tile - 1, 4),
        (tile, 4),
        // 32 of k, then one.
        (tile - 1, 8),
        // Four of k at once.
        (1024, 36),
    ];
    for rows in [1, 3, 40] {
        agree(&file, &[floats("x", &[rows, 33]), floats("r", &[rows, 200])], &limits, 1e-6);
    }
    let refused = limited(&file.model(), &[floats("x", &[1, 33]), floats("r", &[1, 200])], 1023);
    let reason = refused.unwrap_err();
    assert!(reason.contains("MatMul_0") && reason.contains("bindings of 1023"), "{reason}");
}

#[test]
fn bytes_are_split_with_their_scales() {
    let bytes: Vec<i8> = (0..500 * 200).map(|at| ((at * 37 + 11) % 255 - 127) as i8).collect();
    let file = Onnx::new(17)
        .input("x", FLOAT, &[-1, 500])
        .bytes("q", &[500, 200], &bytes)
        .weights("scale", &[1, 200])
        .weights("bias", &[200])
        .node_with("Cast", &["q"], "f", &[("to", Value::Int(FLOAT.into()))])
        .node("Mul", &["f", "scale"], "w")
        .node("MatMul", &["x", "w"], "a")
        .node("Add", &["a", "bias"], "y")
        .output("y");
    let tile = 64 * 500;
    let limits = [(4 * tile, 1), (4 * tile - 1, 2), (tile, 4), (tile - 1, 8)];
    agree(&file, &[floats("x", &[5, 500])], &limits, 1e-6);
}

#[test]
fn weights_of_a_batch_are_split() {
    for (x, w, together) in
        [(&[4, 5, 16], &[4i64, 16, 22] as &[i64], 4u64), (&[4, 5, 16], &[2, 1, 16, 22], 2)]
    {
        let mut dims: Vec<i64> = x.iter().map(|&size| size as i64).collect();
        let mut sizes: Vec<usize> = x.to_vec();
        if w.len() == 4 {
            dims.insert(0, 2);
            sizes.insert(0, 2);
        }
        let file = Onnx::new(17)
            .input("x", FLOAT, &dims)
            .weights("w", w)
            .node("MatMul", &["x", "w"], "y")
            .output("y");
        // Four columns at once are the least.
        let four = together * 16 * 4 * 4;
        let limits =
            [(together * 16 * 22 * 4, 1), (3 * four, 2), (3 * four - 1, 3), (four - 1, 12)];
        agree(&file, &[floats("x", &sizes)], &limits, 1e-6);
    }
}

#[test]
fn blocks_are_split_by_columns() {
    // 32 bytes of weights and two blocks, of 8 bytes each, per column.
    let bytes: Vec<u8> = (0..30 * 32u32).map(|at| (at * 89 % 251) as u8).collect();
    let mut file = Onnx::new(17).input("x", FLOAT, &[3, 64]).weights("scale", &[60]);
    file.graph.initializer.push(TensorProto {
        name: "w".to_owned(),
        dims: vec![30, 2, 16],
        data_type: 2,
        raw_data: bytes.into(),
        ..TensorProto::default()
    });
    let attributes = [("N", 30), ("K", 64), ("bits", 4), ("block_size", 32)];
    let attributes = attributes.map(|(name, value)| (name, Value::Int(value)));
    let op = "com.microsoft.MatMulNBits";
    let file = file.node_with(op, &["x", "w", "scale"], "y", &attributes).output("y");
    let limits = [(30 * 32, 1), (30 * 32 - 1, 2), (16 * 32, 2), (10 * 32, 4), (3 * 32, 10)];
    agree(&file, &[floats("x", &[3, 64])], &limits, 1e-6);
    let refused = limited(&file.model(), &[floats("x", &[3, 64])], 31).unwrap_err();
    assert!(refused.contains("a row of 32 bytes of `w` in a binding of 31 bytes"), "{refused}");
}

#[test]
fn a_table_is_gathered_from_in_parts() {
    let ids = Tensor::from_slice([2, 4], &[0i64, 49, -1, -50, 24, 25, -25, 26]).unwrap();
    let inputs = [("ids".to_owned(), ids)];
    let file = Onnx::new(17)
        .input("ids", INT64, &[2, 4])
        .weights("table", &[50, 7])
        .node("Gather", &["table", "ids"], "y")
        .output("y");
    let limits = [
        (50 * 28, 1),
        (50 * 28 - 1, 2),
        (25 * 28 + 1, 2),
        (25 * 28, 2),
        (25 * 28 - 1, 3),
        (28, 50),
    ];
    agree(&file, &inputs, &limits, 0.0);
    let reason = limited(&file.model(), &inputs, 27).unwrap_err();
    assert!(reason.contains("a row of 28 bytes of `table` in a binding of 27 bytes"), "{reason}");
    // An axis in the middle, and integers.
    let data: Vec<i64> = (0..3 * 50 * 4).collect();
    let file = Onnx::new(17)
        .input("ids", INT64, &[2, 4])
        .ints("flat", &data)
        .ints("dims", &[3, 50, 4])
        .node("Reshape", &["flat", "dims"], "table")
        .node_with("Gather", &["table", "ids"], "y", &[("axis", Value::Int(1))])
        .output("y");
    agree(&file, &inputs, &[(50 * 48, 1), (50 * 48 - 4, 2), (48, 50)], 0.0);
}

#[test]
fn a_table_of_bytes_is_gathered_from_in_parts() {
    let file = rows_of_bytes();
    let ids = Tensor::from_slice([2, 3], &[0i64, 4999, -5000, 2499, 2500, -1]).unwrap();
    let limits = [(5000 * 20, 1), (5000 * 20 - 1, 2), (2500 * 20, 2), (1000 * 20, 5)];
    agree(&file, &[("ids".to_owned(), ids)], &limits, 0.0);
}

#[test]
fn a_slice_of_a_large_constant_is_written_out() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[2, 3])
        .weights("w", &[64, 9])
        .ints("start", &[5, 2])
        .ints("end", &[7, 5])
        .node("Slice", &["w", "start", "end"], "part")
        .node("Add", &["x", "part"], "y")
        .output("y");
    agree(&file, &[floats("x", &[2, 3])], &[(64 * 36, 1), (64 * 36 - 1, 1), (24, 1)], 0.0);
}

#[test]
fn what_cannot_be_split_is_an_error_with_names_and_numbers() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[100])
        .weights("w", &[100])
        .node("Add", &["x", "w"], "y")
        .output("y");
    let plan = limited(&file.model(), &[floats("x", &[100])], 200).unwrap();
    let limits = MemoryLimits { binding_bytes: 200, ..MemoryLimits::default() };
    let error = plan_memory(&plan, &limits).unwrap_err();
    assert_eq!((error.bytes, error.max), (400, 200));
    assert!(["x", "w", "y"].contains(&error.tensor.as_str()), "{error}");
}

#[test]
fn any_limit_gives_the_same() {
    let mut state = 7u32;
    let mut below = |most: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % most
    };
    for case in 0..24 {
        let (m, k, n) = (1 + below(20), 1 + below(90), 1 + below(300));
        let file = Onnx::new(17)
            .input("x", FLOAT, &[m as i64, k as i64])
            .input("ids", INT64, &[5])
            .weights("w", &[k as i64, n as i64])
            .weights("v", &[k as i64, n as i64])
            .weights("b", &[n as i64])
            .node("MatMul", &["x", "w"], "a")
            .node("MatMul", &["x", "v"], "c")
            .node("Add", &["a", "b"], "d")
            .node("Sigmoid", &["d"], "e")
            .node("Mul", &["e", "c"], "y")
            .node("Gather", &["w", "ids"], "z")
            .output("y")
            .output("z");
        let ids: Vec<i64> = (0..5).map(|_| below(2 * k) as i64 - k as i64).collect();
        let ids = Tensor::from_slice([5], &ids).unwrap();
        let inputs = [floats("x", &[m, k]), ("ids".to_owned(), ids)];
        let model = file.model();
        let limit = 1200 + below(4 * k.max(4) * n.max(64)) as u64;
        let plan = limited(&model, &inputs, limit).unwrap();
        assert!(largest_weight(&plan) <= limit, "case {case}: {plan}");
        let whole = limited(&model, &inputs, u64::MAX).unwrap();
        let (Some(given), Some(due)) = (outputs(plan, &inputs), outputs(whole, &inputs)) else {
            return;
        };
        for ((name, given), (_, due)) in given.iter().zip(&due) {
            let error = error(given, due);
            assert!(error <= 2e-6, "case {case}, {m} {k} {n}, {limit}: {name} differs by {error}");
        }
    }
}

/// An embedding whose table is also the last layer, of more than the 128 MiB that a binding of
/// llvmpipe holds.
#[test]
fn a_tied_embedding_beyond_the_limit_of_llvmpipe_runs() {
    const ROWS: usize = 33_000;
    const WIDTH: usize = 1024;
    let Some(device) = shared() else { return };
    let value = |row: usize, column: usize| ((row * 31 + column * 17) % 1009) as f32 / 1009.0 - 0.5;
    let table: Vec<u8> =
        (0..ROWS * WIDTH).flat_map(|at| value(at / WIDTH, at % WIDTH).to_le_bytes()).collect();
    let mut file = Onnx::new(17).input("ids", INT64, &[3]);
    file.graph.initializer.push(TensorProto {
        name: "table".to_owned(),
        dims: vec![ROWS as i64, WIDTH as i64],
        data_type: FLOAT,
        raw_data: Bytes::from(table),
        ..TensorProto::default()
    });
    let file = file
        .node("Gather", &["table", "ids"], "h")
        .node_with("Transpose", &["table"], "t", &[("perm", Value::Ints(vec![1, 0]))])
        .node("MatMul", &["h", "t"], "logits")
        .output("h")
        .output("logits");
    let model = Arc::new(file.model());
    drop(file);
    let plan =
        model.plan(&BTreeMap::<String, Shape>::new(), &device.caps(), &PlanOptions::default());
    let is_split = device.caps().binding_bytes < (ROWS * WIDTH * 4) as u64;
    assert_eq!(plan.unwrap().steps.len(), if is_split { 4 } else { 2 });
    let rows = [5usize, ROWS - 1, 32_768];
    let ids = Tensor::from_slice([3], &[5i64, -1, 32_768]).unwrap();
    let given = run(&model, &[("ids".to_owned(), ids)], PlanOptions::default()).unwrap();
    let (h, logits) = (given[0].1.to_vec::<f32>().unwrap(), given[1].1.to_vec::<f32>().unwrap());
    for (at, &row) in rows.iter().enumerate() {
        let due: Vec<f32> = (0..WIDTH).map(|column| value(row, column)).collect();
        assert_eq!(h[at * WIDTH..(at + 1) * WIDTH], due);
        for token in (0..ROWS).step_by(1499).chain([32_703, 32_704, 32_767, 32_768, ROWS - 1]) {
            let terms = (0..WIDTH).map(|k| f64::from(value(row, k)) * f64::from(value(token, k)));
            let due: f64 = terms.sum();
            let given = f64::from(logits[at * ROWS + token]);
            assert!((given - due).abs() <= 1e-3, "{given} at {at}, {token}, where {due} is due");
        }
    }
}
