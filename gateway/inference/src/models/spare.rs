//! How a model is loaded where it goes on once its GPU is gone.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::{Lane, Models, Wanted, locked};
use crate::backend::{BackendKind, ModelSource};
use crate::model::LoadSpare;
use crate::worker::Core;
use crate::{DeviceChoice, InferenceError};

/// Where the bytes of a model are, for as long as somebody may ask it.
enum Source {
    File(PathBuf),
    Bytes(Bytes),
}

impl Models {
    /// The CPU in place of a GPU that nobody insisted on. The file is read only when it must be.
    pub(super) fn spare(
        &self,
        device: &DeviceChoice,
        wanted: &Wanted<'_>,
    ) -> Result<Option<LoadSpare>, InferenceError> {
        if !may_move(device, &self.lane(device)?) {
            return Ok(None);
        }
        let cpu = self.lane(&DeviceChoice::Cpu)?.backend;
        let (name, digest, metrics) = (wanted.name.to_owned(), wanted.digest, self.metrics.clone());
        let (limits, moved) = (self.limits(wanted.policy), Arc::clone(&self.moved));
        let source = match wanted.source {
            ModelSource::File(path) => Source::File(path.to_owned()),
            ModelSource::Bytes(bytes) => Source::Bytes(bytes.clone()),
        };
        Ok(Some(Arc::new(move || {
            let source = match &source {
                Source::File(path) => ModelSource::File(path),
                Source::Bytes(bytes) => ModelSource::Bytes(bytes),
            };
            let model = cpu.load(&name, source)?;
            let counted = metrics.model(&name, cpu.device());
            let core = Arc::new(Core::start(&name, digest, model, None, limits, counted)?);
            let mut moved = locked(&moved);
            moved.retain(|core| core.strong_count() > 0);
            moved.push(Arc::downgrade(&core));
            Ok((core, metrics.requests(&name, cpu.device())))
        })))
    }

    /// Makes a choice mean this device, for tests of devices that fail.
    #[cfg(test)]
    pub(crate) fn put(&self, choice: DeviceChoice, backend: Arc<dyn crate::Backend>) {
        locked(&self.lanes).insert(choice, Lane::of(backend, &self.metrics));
    }
}

/// Whether the CPU may take over a model of this device.
pub(super) fn may_move(device: &DeviceChoice, lane: &Lane) -> bool {
    *device == DeviceChoice::Auto && lane.backend.kind() == BackendKind::Gpu
}
