//! The models of a node, and what is counted of them.

use std::sync::{Arc, Barrier};
use std::thread;

use gw_inference::{InferenceConfig, InferenceError, Model, ModelSpec, Models};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// The models of a node with their metrics.
pub(crate) struct Node {
    pub(crate) models: Models,
    registry: Registry,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::of(InferenceConfig::default())
    }

    pub(crate) fn of(config: InferenceConfig) -> Self {
        let mut registry = Registry::default();
        let models = Models::new(config, &mut registry);
        Self { models, registry }
    }

    /// The value of the first series with this name and this label.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(label));
        let line = line.unwrap_or_else(|| panic!("no {name} with {label} in {text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// Loads from eight threads at the same moment.
    pub(crate) fn load_from_all_sides(
        &self,
        spec: &ModelSpec,
    ) -> Vec<Result<Arc<Model>, InferenceError>> {
        let together = Barrier::new(8);
        let load = || {
            together.wait();
            self.models.load(spec)
        };
        thread::scope(|scope| {
            let loads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            loads.into_iter().map(|load| load.join().unwrap()).collect()
        })
    }
}
