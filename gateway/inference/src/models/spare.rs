//! How a model is loaded where it goes on once its GPU is gone.

use std::sync::Arc;

use super::residency::Residency;
use super::{Models, Wanted};
use crate::backend::BackendKind;
use crate::model::LoadSpare;
use crate::{DeviceChoice, InferenceError};

impl Models {
    /// The CPU in place of a GPU that nobody insisted on. The file is read only when it must be.
    pub(super) fn spare(
        &self,
        device: &DeviceChoice,
        wanted: &Wanted<'_>,
    ) -> Result<Option<LoadSpare>, InferenceError> {
        if !may_move(device, &*self.device(device)?) {
            return Ok(None);
        }
        let slot = self.slot(wanted, &self.device(&DeviceChoice::Cpu)?);
        let (name, metrics) = (wanted.name.to_owned(), self.metrics.clone());
        Ok(Some(Arc::new(move || {
            slot.ready_blocking()?;
            Ok((Arc::clone(&slot), metrics.requests(&name, &slot.known().device)))
        })))
    }

    /// Makes a choice mean this device, for tests of devices that fail.
    #[cfg(test)]
    pub(crate) fn put(&self, choice: DeviceChoice, backend: Arc<dyn crate::Backend>) {
        let residency = self.residency(backend);
        super::locked(&self.devices).insert(choice, residency);
    }
}

/// Whether the CPU may take over a model of this device.
pub(super) fn may_move(device: &DeviceChoice, residency: &Residency) -> bool {
    *device == DeviceChoice::Auto && residency.backend.kind() == BackendKind::Gpu
}
