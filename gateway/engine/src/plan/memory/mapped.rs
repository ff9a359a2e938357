//! Inputs and outputs that need no arena where kernels may bind mapped memory.

use gw_shaders::kernel::Access;

use crate::plan::{BufferKind, Plan};

/// Which buffers of `plan` may lie in the mapped memory of a run. The inputs of a run share one
/// buffer there and its outputs another, and no step may bind one buffer both as `read` and as
/// `read_write`; so an output that a step reads keeps its place in an arena.
pub(super) fn mappable(plan: &Plan) -> Vec<bool> {
    let mut mapped = vec![false; plan.buffers.len()];
    let is_output = |index: usize| plan.buffers[index].kind == BufferKind::Output;
    for (id, _) in plan.inputs.iter().filter_map(|port| port.source.place()) {
        mapped[id.0 as usize] = true;
    }
    for (id, _) in plan.outputs.iter().filter_map(|port| port.source.place()) {
        mapped[id.0 as usize] = is_output(id.0 as usize);
    }
    for step in &plan.steps {
        for (id, access) in step.bindings.iter().zip(&step.dispatch.kernel.bindings) {
            mapped[id.0 as usize] &= *access == Access::ReadWrite || !is_output(id.0 as usize);
        }
    }
    mapped
}
