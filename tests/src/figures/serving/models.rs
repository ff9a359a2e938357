//! Models without a gateway around them.

use std::fs::File;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gw_artifact::Digest;
use gw_inference::{DeviceChoice, InferenceConfig, Model, ModelPolicy, ModelSpec, Models};
use gw_tensor::Tensor;
use prometheus_client::registry::Registry;

use crate::figures::dispatches;

/// Of one text, in tokens: a sentence.
const TOKENS: usize = 32;

/// No request of a figure takes as long.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// A node's models with its default limits.
pub(super) fn node() -> Models {
    node_told(&mut Registry::default())
}

/// As [`node`], whose metrics go here.
pub(super) fn node_told(registry: &mut Registry) -> Models {
    // Callers of an unbatched model on a software adapter wait for each other.
    let config = InferenceConfig { wait_max: PATIENCE, ..InferenceConfig::default() };
    Models::new(config, registry)
}

/// One of the real models, as it is loaded on `device`.
pub(super) fn spec(name: &str, device: &str, policy: ModelPolicy) -> Result<ModelSpec> {
    let path = PathBuf::from(dispatches::model(name)?);
    let file = File::open(&path).with_context(|| format!("{}", path.display()))?;
    let (digest, _) = Digest::of_reader(file)?;
    let device = match device {
        "cpu" => DeviceChoice::Cpu,
        name => DeviceChoice::Named(name.to_owned()),
    };
    Ok(ModelSpec { name: name.to_owned(), path, digest, device, policy })
}

/// So many texts of equal length, as inputs of `MiniLM`.
pub(super) fn texts(rows: usize) -> Result<Vec<(String, Tensor)>> {
    let ids: Vec<i64> = (0..20_000).map(|id| 1000 + id * 7 % 20_000).take(rows * TOKENS).collect();
    let input = |name: &str, values: &[i64]| -> Result<(String, Tensor)> {
        Ok((name.to_owned(), Tensor::from_slice([rows, TOKENS], values)?))
    };
    Ok(vec![
        input("input_ids", &ids)?,
        input("attention_mask", &vec![1; ids.len()])?,
        input("token_type_ids", &vec![0; ids.len()])?,
    ])
}

/// What a future gives, on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Texts a second, where so many callers ask for `rows` at a time, each as soon as it was answered.
pub(super) async fn rate(
    model: &Arc<Model>,
    callers: usize,
    rows: usize,
    length: Duration,
) -> Result<f64> {
    let begun = Instant::now();
    let inputs = texts(rows)?;
    let asking = (0..callers).map(|_| {
        let (model, inputs) = (Arc::clone(model), inputs.clone());
        tokio::spawn(async move {
            let mut answered = 0;
            while begun.elapsed() < length {
                model.infer(inputs.clone(), Instant::now() + PATIENCE).await?;
                answered += rows;
            }
            anyhow::Ok(answered)
        })
    });
    let mut answered = 0;
    for caller in asking.collect::<Vec<_>>() {
        answered += caller.await??;
    }
    Ok(answered as f64 / begun.elapsed().as_secs_f64())
}
