//! Who takes over where a GPU is gone for good.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::{Lane, Models, Wanted};
use crate::backend::{BackendKind, ModelSource};
use crate::worker::Spare;
use crate::{DeviceChoice, InferenceError};

/// Where the bytes of a model are, for as long as it is loaded.
enum Source {
    File(PathBuf),
    Bytes(Bytes),
}

impl Models {
    /// The CPU in place of a GPU that nobody insisted on. It reads the file only when it must.
    pub(super) fn spare(
        &self,
        device: &DeviceChoice,
        lane: &Lane,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Spare>, InferenceError> {
        if !may_move(device, lane) {
            return Ok(None);
        }
        let cpu = self.lane(&DeviceChoice::Cpu)?.backend;
        let (name, metrics) = (wanted.name.to_owned(), self.metrics.clone());
        let source = match wanted.source {
            ModelSource::File(path) => Source::File(path.to_owned()),
            ModelSource::Bytes(bytes) => Source::Bytes(bytes.clone()),
        };
        Ok(Some(Box::new(move || {
            let source = match &source {
                Source::File(path) => ModelSource::File(path),
                Source::Bytes(bytes) => ModelSource::Bytes(bytes),
            };
            let model = cpu.load(&name, source)?;
            Ok((model, metrics.model(&name, cpu.device())))
        })))
    }

    #[cfg(test)]
    pub(crate) fn put(&self, choice: DeviceChoice, backend: Arc<dyn crate::Backend>) {
        let lane = Lane::of(backend, &self.metrics);
        super::locked(&self.lanes).insert(choice, lane);
    }
}

/// Whether another device may take over a model of this one.
pub(super) fn may_move(device: &DeviceChoice, lane: &Lane) -> bool {
    *device == DeviceChoice::Auto && lane.backend.kind() == BackendKind::Gpu
}
