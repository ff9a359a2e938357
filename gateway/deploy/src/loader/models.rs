//! The models of an app: fetched one after the other, loaded side by side.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use gw_artifact::bundle::{BundleContent, BundledModel};
use gw_artifact::manifest::{DevicePreference, Manifest, ModelEntry};
use gw_inference::{DeviceChoice, Model, ModelSpec};

use super::{Loader, bundled, serving};
use crate::DeployError;
use crate::content::Content;

impl Loader {
    /// Fetches and loads every model of an app, by name. Loading plans, and compiles kernels, each
    /// model on a thread of its own, so that nothing of it is left for the first request.
    pub(super) fn load_models(
        &self,
        manifest: &Manifest,
        content: &BundleContent,
        files: &Content,
        base: &Path,
    ) -> Result<HashMap<String, Arc<Model>>, DeployError> {
        let mut specs = Vec::new();
        for entry in &manifest.models {
            let bundled = bundled(manifest, content, entry)?;
            specs.push((entry, self.model_spec(entry, bundled, files, base)?));
        }
        let mut models = HashMap::new();
        let side_by_side = thread::available_parallelism().map_or(1, usize::from);
        for specs in specs.chunks(side_by_side) {
            let load = |spec| self.models.load(spec);
            let loaded: Vec<_> = thread::scope(|scope| {
                let loads: Vec<_> =
                    specs.iter().map(|(_, spec)| scope.spawn(move || load(spec))).collect();
                loads.into_iter().map(thread::ScopedJoinHandle::join).collect()
            });
            for ((entry, _), loaded) in specs.iter().zip(loaded) {
                let loaded = loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                let model = loaded.map_err(|error| serving::refused(manifest, entry, error))?;
                models.insert(entry.name.clone(), model);
            }
        }
        Ok(models)
    }

    /// What to load, once its file is here.
    fn model_spec(
        &self,
        entry: &ModelEntry,
        bundled: &BundledModel,
        files: &Content,
        base: &Path,
    ) -> Result<ModelSpec, DeployError> {
        let name = entry.name.clone();
        let digest = bundled.digest;
        let path = if bundled.bytes.is_some() {
            files.model(&digest)
        } else {
            let (source, progress) = (&entry.source, self.progress.as_ref());
            let fetched = self.fetcher.fetch(&name, source, Some(&digest), base, progress);
            let refused =
                |error| DeployError::Fetch { model: name.clone(), source: Box::new(error) };
            fetched.map_err(refused)?.path
        };
        let device = match (&self.device, entry.device) {
            (DeviceChoice::Auto, DevicePreference::Auto) => DeviceChoice::Auto,
            (DeviceChoice::Auto, DevicePreference::Gpu) => DeviceChoice::Gpu,
            (DeviceChoice::Auto, DevicePreference::Cpu) => DeviceChoice::Cpu,
            (chosen, _) => chosen.clone(),
        };
        Ok(ModelSpec { name, path, digest, device, policy: serving::policy(&entry.serving) })
    }
}
