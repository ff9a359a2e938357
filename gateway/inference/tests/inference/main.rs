//! Real models, written as ONNX by the tests, on every device that this machine has.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod batching;
mod cpu;
mod devices;
mod minilm;
mod node;
mod onnx;
mod registry;
mod residency;

use std::time::{Duration, Instant};

use gw_inference::{
    DeviceChoice, InferenceConfig, InferenceError, LoadedModel, ModelSpec, open_model,
};
use gw_tensor::{Element, Tensor};
use tempfile::TempDir;

/// A model file that lives as long as the test.
struct ModelFile {
    dir: TempDir,
    bytes: Vec<u8>,
}

impl ModelFile {
    fn new(bytes: Vec<u8>) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("model.onnx"), &bytes).unwrap();
        Self { dir, bytes }
    }

    fn open_on(&self, device: &DeviceChoice) -> Result<Box<dyn LoadedModel>, InferenceError> {
        self.open_with(device, &InferenceConfig::default())
    }

    fn open_with(
        &self,
        device: &DeviceChoice,
        config: &InferenceConfig,
    ) -> Result<Box<dyn LoadedModel>, InferenceError> {
        open_model(&self.dir.path().join("model.onnx"), device, config)
    }

    fn spec(&self, name: &str, device: &DeviceChoice) -> ModelSpec {
        ModelSpec {
            name: name.to_owned(),
            path: self.dir.path().join("model.onnx"),
            digest: gw_artifact::Digest::of(&self.bytes),
            device: device.clone(),
            policy: gw_inference::ModelPolicy::default(),
        }
    }
}

/// The CPU, and the software adapter where there is one; without it tests of the GPU are skipped,
/// unless `GW_REQUIRE_GPU=1` says that it must be there.
fn devices() -> Vec<DeviceChoice> {
    let llvmpipe = DeviceChoice::Named("llvmpipe".to_owned());
    let present = gw_engine::adapters().iter().any(|info| info.name.contains("llvmpipe"));
    let required = std::env::var("GW_REQUIRE_GPU").is_ok_and(|value| value == "1");
    assert!(present || !required, "GW_REQUIRE_GPU=1, but there is no llvmpipe adapter");
    if present { vec![DeviceChoice::Cpu, llvmpipe] } else { vec![DeviceChoice::Cpu] }
}

fn tensor<T: Element>(dims: &[usize], values: &[T]) -> Tensor {
    Tensor::from_slice(dims, values).unwrap()
}

fn input(name: &str, tensor: Tensor) -> (String, Tensor) {
    (name.to_owned(), tensor)
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_mins(10)
}

/// Asserts that two lists of floats differ by at most `tolerance` in every place.
fn assert_close(given: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(given.len(), expected.len());
    for (index, (a, b)) in given.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "at {index}: {a} is not {b}");
    }
}
