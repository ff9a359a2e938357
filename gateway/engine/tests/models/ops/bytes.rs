//! Products of bytes: what adapters add up as bytes, and others as floats, is the same number.

use std::sync::Arc;

use gw_engine::plan::Plan;
use gw_engine::{Interpreter, Model, PlanOptions, Session, SessionOptions};
use gw_shaders::kernel::Caps;
use gw_tensor::Tensor;

use crate::device::shared;
use crate::onnx::{FLOAT, INT8, Onnx, UINT8};
use crate::run::{floats, shapes};

type Inputs = Vec<(String, Tensor)>;

/// The plan of hardware, of which `names` say how many steps add up bytes.
fn plan_of(model: &Model, inputs: &Inputs, software: bool) -> Plan {
    let caps = shared().map_or(Caps::minimal(), |device| device.caps());
    let caps = Caps { software, ..caps };
    let plan = model.plan(&shapes(inputs), &caps, &PlanOptions::default()).unwrap();
    let dots =
        plan.steps.iter().filter(|step| step.dispatch.kernel.variant.starts_with("bytes")).count();
    assert_eq!(dots, usize::from(!software), "{plan}");
    plan
}

/// The first output on the CPU, and on the device where there is one, in both ways.
fn answers(file: &Onnx, inputs: &Inputs) -> Vec<Tensor> {
    let model = Arc::new(file.model());
    let cpu = Interpreter::new(Arc::clone(&model), PlanOptions::default());
    let mut found = vec![cpu.run(inputs).unwrap().swap_remove(0).1];
    for software in [true, false] {
        let plan = plan_of(&model, inputs, software);
        let Some(device) = shared() else { continue };
        let session = Session::from_plan(plan, device, SessionOptions::default());
        found.push(session.run(inputs).unwrap().swap_remove(0).1);
    }
    found
}

fn bytes(count: usize, step: usize) -> Vec<u8> {
    (0..count).map(|at| (at * step + at / 7).to_le_bytes()[0]).collect()
}

/// A byte as what its type says.
fn number(dtype: i32, byte: u8) -> i32 {
    if dtype == INT8 { i32::from(byte.cast_signed()) } else { i32::from(byte) }
}

fn tensor(dtype: i32, dims: &[usize], data: &[u8]) -> Tensor {
    match dtype {
        INT8 => Tensor::from_slice(dims, bytemuck::cast_slice::<u8, i8>(data)).unwrap(),
        _ => Tensor::from_slice(dims, data).unwrap(),
    }
}

#[test]
fn sums_of_bytes_are_exact_whatever_their_types_and_zero_points() {
    let (m, n) = (5usize, 70usize);
    for (k, types) in
        [(37, [UINT8, INT8]), (1500, [UINT8, UINT8]), (36, [INT8, UINT8]), (9, [INT8; 2])]
    {
        let (a, b) = (bytes(m * k, 91), bytes(k * n, 37));
        // None, the middle, one, and one for each row and column.
        for kind in 0..4 {
            let middle = |dtype| if dtype == INT8 { 0 } else { 128 };
            let zeros = |dtype, count: usize, step| match kind {
                1 => vec![middle(dtype)],
                2 => vec![23u8],
                _ => bytes(count, step),
            };
            let (a_zero, b_zero) = (zeros(types[0], m, 57), zeros(types[1], n, 83));
            let dims = |zeros: &[u8]| if kind == 3 { vec![zeros.len() as i64] } else { vec![] };
            let mut file = Onnx::new(17).input("a", types[0], &[m as i64, k as i64]).raw(
                "b",
                types[1],
                &[k as i64, n as i64],
                &b,
            );
            let mut operands = vec!["a", "b"];
            if kind > 0 {
                file = file.raw("a zero", types[0], &dims(&a_zero), &a_zero);
                file = file.raw("b zero", types[1], &dims(&b_zero), &b_zero);
                operands.extend(["a zero", "b zero"]);
            }
            let file = file.node("MatMulInteger", &operands, "y").output("y");
            let inputs = vec![("a".to_owned(), tensor(types[0], &[m, k], &a))];
            let zero = |zeros: &[u8], dtype, at: usize| match kind {
                0 => 0,
                _ => number(dtype, zeros[at % zeros.len()]),
            };
            let due = |row: usize, column: usize| -> i32 {
                let term = |at: usize| {
                    let a = number(types[0], a[row * k + at]) - zero(&a_zero, types[0], row);
                    let b = number(types[1], b[at * n + column]) - zero(&b_zero, types[1], column);
                    a * b
                };
                (0..k).map(term).sum()
            };
            let due: Vec<i32> = (0..m * n).map(|at| due(at / n, at % n)).collect();
            for given in answers(&file, &inputs) {
                assert_eq!(given.to_vec::<i32>().unwrap(), due, "{types:?}, zeros {kind}");
            }
        }
    }
}

#[test]
fn a_dynamic_product_of_bytes_scales_its_sums_where_they_are_made() {
    let (k, n) = (64usize, 96usize);
    let file = Onnx::new(17)
        .input("x", FLOAT, &[2, 3, 64])
        .raw("b", INT8, &[64, 96], &bytes(k * n, 37))
        .weights("scale", &[96])
        .weights("bias", &[96])
        .node("com.microsoft.DynamicQuantizeMatMul", &["x", "b", "scale", "", "bias"], "y")
        .output("y");
    let inputs = vec![floats("x", &[2, 3, 64])];
    let plan = plan_of(&file.model(), &inputs, false);
    let last = plan.steps.last().unwrap();
    assert!(last.dispatch.kernel.variant.starts_with("bytes"), "{plan}");
    let found = answers(&file, &inputs);
    let due = found[0].to_vec::<f32>().unwrap();
    for given in &found[1..] {
        for (given, due) in given.to_vec::<f32>().unwrap().iter().zip(&due) {
            assert!((given - due).abs() <= 1e-5 * due.abs().max(1.0), "{given} is not {due}");
        }
    }
}
