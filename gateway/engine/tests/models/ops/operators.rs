//! Operators that the node tests of ONNX leave out, against ONNX Runtime.
//!
//! `operators.json` is what `tests/reference/operators.py` wrote with onnxruntime 1.32.

use std::sync::Arc;

use gw_engine::onnx::proto::{AttributeProto, TensorProto};
use gw_engine::{Model, PlanOptions};
use gw_tensor::{DType, Tensor};
use serde_json::Value as Json;

use crate::onnx::{BOOL, FLOAT, INT64, Onnx, noise};
use crate::run::run;

/// Softmaxes and sums of a few dozen products; the values due have six digits.
const TOLERANCE: f32 = 2e-5;

const INT32: i32 = 6;

#[test]
fn operators_agree_with_onnx_runtime() {
    let reference: Json = serde_json::from_str(include_str!("operators.json")).unwrap();
    let cases = reference["cases"].as_array().unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let (model, inputs) = read(case);
        let model = Arc::new(model);
        for fuse in [true, false] {
            let options = PlanOptions { fuse, ..PlanOptions::default() };
            let Some(outputs) = run(&model, &inputs, options) else { return };
            for ((_, given), due) in outputs.iter().zip(case["outputs"].as_array().unwrap()) {
                compare(name, given, due);
            }
        }
    }
}

fn compare(name: &str, given: &Tensor, due: &Json) {
    let place = &due["place"];
    assert_eq!(given.shape().dims(), sizes(&due["dims"]), "{name}, output {place}");
    let due: Vec<f32> = serde_json::from_value(due["values"].clone()).unwrap();
    let given: Vec<f32> = match given.dtype() {
        DType::F32 => given.as_slice::<f32>().unwrap().to_vec(),
        _ => given.as_slice::<i32>().unwrap().iter().map(|&value| value as f32).collect(),
    };
    let range = due.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    for (index, (given, due)) in given.iter().zip(&due).enumerate() {
        let close = (given - due).abs() <= TOLERANCE * range;
        assert!(close, "{name}, output {place}: {given} at {index} where {due} is due");
    }
}

/// The model of one operator, and its inputs.
fn read(case: &Json) -> (Model, Vec<(String, Tensor)>) {
    let mut file = Onnx::new(case["opset"].as_i64().unwrap());
    let (mut names, mut inputs) = (Vec::new(), Vec::new());
    for (place, input) in case["inputs"].as_array().unwrap().iter().enumerate() {
        if input.is_null() {
            names.push(String::new());
            continue;
        }
        let name = format!("i{place}");
        let seed = format!("{} {place}", case["name"].as_str().unwrap());
        let dims = sizes(&input["dims"]);
        let signed: Vec<i64> = dims.iter().map(|&size| size as i64).collect();
        let kind = i32::try_from(input["type"].as_i64().unwrap()).unwrap();
        let ints = || serde_json::from_value::<Vec<i64>>(input["ints"].clone()).unwrap();
        if input["known"].as_bool().unwrap() {
            file.graph.initializer.push(TensorProto {
                name: name.clone(),
                dims: signed,
                data_type: INT64,
                int64_data: ints(),
                ..TensorProto::default()
            });
        } else {
            let count = dims.iter().product();
            let tensor = match kind {
                FLOAT => Tensor::from_slice(dims, &noise(&seed, count)),
                INT64 => Tensor::from_slice(dims, &ints()),
                INT32 => {
                    let narrow: Vec<i32> = ints().iter().map(|&value| value as i32).collect();
                    Tensor::from_slice(dims, &narrow)
                }
                BOOL => {
                    let bytes: Vec<u8> = ints().iter().map(|&value| u8::from(value != 0)).collect();
                    Tensor::new(DType::Bool, dims, bytes)
                }
                other => panic!("type {other}"),
            };
            inputs.push((name.clone(), tensor.unwrap()));
            file = file.input(&name, kind, &signed);
        }
        names.push(name);
    }
    let places: Vec<u64> =
        case["outputs"].as_array().unwrap().iter().map(|o| o["place"].as_u64().unwrap()).collect();
    let last = places.iter().max().unwrap();
    let output = |place| if places.contains(&place) { format!("o{place}") } else { String::new() };
    let outputs: Vec<String> = (0..=*last).map(output).collect();
    for name in outputs.iter().filter(|name| !name.is_empty()) {
        file = file.output(name);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    file = file.node(case["op"].as_str().unwrap(), &names, &outputs.join(","));
    let node = &mut file.graph.node[0];
    case["domain"].as_str().unwrap().clone_into(&mut node.domain);
    node.attribute = case["attributes"].as_object().unwrap().iter().map(attribute).collect();
    (file.model(), inputs)
}

fn sizes(dims: &Json) -> Vec<usize> {
    serde_json::from_value(dims.clone()).unwrap()
}

fn attribute((name, value): (&String, &Json)) -> AttributeProto {
    let mut proto = AttributeProto { name: name.clone(), ..AttributeProto::default() };
    match value {
        Json::String(text) => {
            (proto.r#type, proto.s) = (AttributeProto::STRING, text.clone().into_bytes());
        }
        Json::Number(number) if number.is_i64() => {
            (proto.r#type, proto.i) = (AttributeProto::INT, number.as_i64().unwrap());
        }
        Json::Number(number) => {
            (proto.r#type, proto.f) = (AttributeProto::FLOAT, number.as_f64().unwrap() as f32);
        }
        Json::Array(values) if values.iter().all(Json::is_i64) => {
            let ints = values.iter().map(|value| value.as_i64().unwrap()).collect();
            (proto.r#type, proto.ints) = (AttributeProto::INTS, ints);
        }
        other => {
            let floats = serde_json::from_value(other.clone()).unwrap();
            (proto.r#type, proto.floats) = (AttributeProto::FLOATS, floats);
        }
    }
    proto
}
