//! The dispatches of a plan, ready to be encoded.

use std::sync::Arc;

use gw_shaders::kernel::{Dispatch, Scalar};

use crate::device::pipelines::Pipeline;
use crate::device::{Device, DeviceError};
use crate::plan::Plan;
use crate::plan::summary::PlanSummary;
use crate::session::error::RunError;
use crate::session::staging::{Staging, Stretch};

/// What a run replays. Another takes its place when the steps are tuned; runs under way keep
/// theirs.
#[derive(Clone, Debug)]
pub(in crate::session) struct Program {
    pub(in crate::session) summary: Arc<PlanSummary>,
    pub(super) steps: Arc<[Ready]>,
}

/// One dispatch.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) pipeline: Arc<Pipeline>,
    /// `None` where a run's own memory is bound: its staging has the group.
    pub(super) group: Option<wgpu::BindGroup>,
    pub(super) params: Vec<u32>,
    pub(super) workgroups: [u32; 3],
    /// What it writes, and of which type.
    pub(super) writes: Arc<[(Stretch, Scalar)]>,
}

/// A dispatch, and the group that it binds where a run's own memory is in it.
pub(super) type Bound<'a> = (&'a Ready, Option<&'a wgpu::BindGroup>);

impl Program {
    /// Every dispatch of a run with this staging.
    pub(super) fn bound<'a>(&'a self, staging: &'a Staging) -> impl Iterator<Item = Bound<'a>> {
        self.steps.iter().zip(staging.groups.iter().map(Option::as_ref))
    }

    /// The same steps, done as `plan` does them.
    pub(super) fn with(&self, device: &Device, plan: &Plan) -> Result<Self, RunError> {
        let (mut summary, mut steps) = ((*self.summary).clone(), self.steps.to_vec());
        let places = steps.iter_mut().zip(&mut summary.steps).zip(&plan.steps).enumerate();
        for (index, ((ready, shown), step)) in places {
            let made = ready.with(device, &step.dispatch);
            *ready = made.map_err(|error| RunError::step(index, &step.label, error))?;
            shown.variant.clone_from(&step.dispatch.kernel.variant);
            shown.workgroups = step.dispatch.workgroups;
            shown.choice.clone_from(&step.choice);
        }
        Ok(Self { summary: Arc::new(summary), steps: steps.into() })
    }
}

impl Ready {
    /// Another dispatch in the same place: variants of a kernel bind alike.
    pub(super) fn with(&self, device: &Device, dispatch: &Dispatch) -> Result<Self, DeviceError> {
        let Dispatch { kernel, params, workgroups } = dispatch;
        let (group, writes) = (self.group.clone(), Arc::clone(&self.writes));
        let (params, workgroups) = (params.clone(), *workgroups);
        Ok(Self { pipeline: device.pipeline(kernel)?, group, params, workgroups, writes })
    }

    pub(super) fn encode(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        own: Option<&wgpu::BindGroup>,
        bound: Option<&Arc<Pipeline>>,
        [x, y, z]: [u32; 3],
    ) {
        if bound.is_none_or(|bound| !Arc::ptr_eq(bound, &self.pipeline)) {
            pass.set_pipeline(&self.pipeline.raw);
        }
        pass.set_bind_group(0, own.or(self.group.as_ref()), &[]);
        if !self.params.is_empty() {
            pass.set_immediates(0, bytemuck::cast_slice(&self.params));
        }
        pass.dispatch_workgroups(x, y, z);
    }
}
