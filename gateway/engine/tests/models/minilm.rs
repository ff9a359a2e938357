//! The embedding model of `examples/01-embed`, against ONNX Runtime. `GW_TEST_MODELS` names a
//! folder with `minilm-int8.onnx`; without it these tests pass with a message.

use std::path::PathBuf;
use std::sync::Arc;

use gw_engine::plan::{BufferKind, Plan};
use gw_engine::{Model, PlanOptions, WeightMode};
use gw_tensor::Tensor;

use crate::run::{plan, run};

/// Of the largest value; measured 1e-6.
const TOLERANCE: f32 = 1e-5;

pub fn path() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("GW_TEST_MODELS") else {
        eprintln!("skipped: GW_TEST_MODELS is not set");
        return None;
    };
    Some(PathBuf::from(folder).join("minilm-int8.onnx"))
}

fn model() -> Option<Arc<Model>> {
    Some(Arc::new(Model::open(&path()?).unwrap()))
}

/// The inputs of `tests/reference/minilm.py`: row `b` has `3 b mod seq` positions of padding.
pub fn inputs(batch: usize, seq: usize) -> Vec<(String, Tensor)> {
    let place = |at: usize| (at / seq, at % seq);
    let tensor = |name: &str, value: &dyn Fn(usize) -> i64| {
        let values: Vec<i64> = (0..batch * seq).map(value).collect();
        (name.to_owned(), Tensor::from_slice([batch, seq], &values).unwrap())
    };
    let is_real = |at: usize| place(at).1 < seq - place(at).0 * 3 % seq;
    vec![
        tensor("input_ids", &|at| (at * 7919 + 101) as i64 % 30_522),
        tensor("attention_mask", &|at| is_real(at).into()),
        tensor("token_type_ids", &|at| (place(at).1 >= seq / 2).into()),
    ]
}

fn weights(plan: &Plan) -> Vec<(&String, &bytes::Bytes)> {
    let weights = plan.buffers.iter().filter_map(|buffer| match &buffer.kind {
        BufferKind::Weight { key, data, .. } => Some((key, data)),
        _ => None,
    });
    weights.collect()
}

#[test]
fn minilm_agrees_with_onnx_runtime() {
    let Some(model) = model() else { return };
    let reference: serde_json::Value = serde_json::from_str(include_str!("minilm.json")).unwrap();
    for case in reference["cases"].as_array().unwrap() {
        let size = |name: &str| usize::try_from(case[name].as_u64().unwrap()).unwrap();
        let (batch, seq, step) = (size("batch"), size("seq"), size("step"));
        let due: Vec<f32> = serde_json::from_value(case["values"].clone()).unwrap();
        for weights in [WeightMode::Int8, WeightMode::F32] {
            let options = PlanOptions { weights, ..PlanOptions::default() };
            let Some(outputs) = run(&model, &inputs(batch, seq), options) else { return };
            let hidden = &outputs[0].1;
            assert_eq!(hidden.shape().dims(), [batch, seq, 384]);
            let all = hidden.as_slice::<f32>().unwrap();
            let range = all.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
            for (given, due) in all.iter().step_by(step).zip(&due) {
                let error = (given - due).abs() / range;
                assert!(error <= TOLERANCE, "{batch}x{seq} {weights:?}: {given} for {due}");
            }
        }
    }
}

#[test]
fn minilm_takes_few_dispatches() {
    let Some(model) = model() else { return };
    for (batch, seq) in [(1, 128), (8, 32)] {
        let plan = plan(&model, &inputs(batch, seq), PlanOptions::default());
        // Per layer: one product for q, k and v, attention, three products of which two normalise
        // their rows; before them the tables and a norm, as all their buffers together are more
        // than every adapter binds. Attention makes the mask itself.
        assert_eq!(plan.steps.len(), 6 * 5 + 2, "{:?}", crate::run::kernels(&plan));
    }
}

#[test]
fn plans_of_one_model_share_their_weights() {
    let Some(model) = model() else { return };
    let short = plan(&model, &inputs(1, 16), PlanOptions::default());
    let long = plan(&model, &inputs(2, 128), PlanOptions::default());
    let large = |plan: &Plan| -> Vec<(String, *const u8)> {
        let mut large: Vec<(String, *const u8)> = weights(plan)
            .into_iter()
            .filter(|(_, data)| data.len() > 1 << 16)
            .map(|(key, data)| (key.clone(), data.as_ptr()))
            .collect();
        large.sort();
        large
    };
    assert_eq!(large(&short), large(&long));
    let total: usize = weights(&long).iter().map(|(_, data)| data.len()).sum();
    assert!(total < 25 << 20, "{total} bytes of weights, where the file has 22.9 MB");
}

#[test]
fn three_hundred_runs_make_nothing() {
    let Some(model) = model() else { return };
    let Some(device) = crate::device::open() else { return };
    let options = gw_engine::SessionOptions::default();
    let session = gw_engine::Session::new(model, std::sync::Arc::clone(&device), options);
    let inputs = inputs(1, 16);
    let first = session.run(&inputs).unwrap();
    let before = (device.counters(), session.stats(), device.pipelines());
    for _ in 0..300 {
        assert_eq!(session.run(&inputs).unwrap(), first);
    }
    assert_eq!((device.counters(), session.stats(), device.pipelines()), before);
    // Weights and arenas are what kernels bind; staging is the caller's tensors on their way.
    let stats = before.1;
    let plan = session
        .plan_for(
            &inputs.iter().map(|(name, tensor)| (name.clone(), tensor.shape().clone())).collect(),
        )
        .unwrap();
    let bound = stats.weight_bytes + plan.live_bytes / 100 * 115 + (4 << 20);
    assert!(stats.peak_bytes <= bound, "{stats:?} where {bound} is the bound");
}
