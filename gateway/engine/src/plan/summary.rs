//! A plan as text, for people and snapshots, and as JSON, for tools.

use std::collections::HashMap;
use std::fmt;

use gw_shaders::kernel::Access;
use serde::Serialize;

use super::memory::{self, MemoryLimits, MemoryPlan};
use super::{BufferKind, Plan};

/// What a plan does, in numbers and names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanSummary {
    /// Kernels that one run starts.
    pub dispatches: usize,
    /// Bytes of weights on the device.
    pub weight_bytes: u64,
    /// Bytes of everything else on the device, with lifetimes sharing memory.
    pub arena_bytes: u64,
    /// The least that `arena_bytes` could be: what is alive at once, at the busiest step.
    pub live_bytes: u64,
    /// The dispatches, in order.
    pub steps: Vec<StepSummary>,
}

/// One dispatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepSummary {
    /// The kernel's family.
    pub kernel: &'static str,
    /// The variant.
    pub variant: String,
    /// The nodes that it computes.
    pub label: String,
    /// The grid.
    pub workgroups: [u32; 3],
    /// What it binds, in order.
    pub bindings: Vec<BindingSummary>,
}

/// One bound buffer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BindingSummary {
    /// The value's name.
    pub buffer: String,
    /// `input`, `weight`, `temporary` or `output`.
    pub kind: &'static str,
    /// Whether the kernel may write it.
    pub write: bool,
    /// Its size.
    pub bytes: u64,
}

impl Plan {
    /// The plan in numbers and names, without weights and shader text.
    pub fn summary(&self) -> PlanSummary {
        // Without a device there is no limit that a plan could break.
        let memory = memory::plan_memory(self, &MemoryLimits::default()).unwrap_or_default();
        self.summary_with(&memory)
    }

    pub(crate) fn summary_with(&self, memory: &MemoryPlan) -> PlanSummary {
        PlanSummary {
            dispatches: self.steps.len(),
            weight_bytes: self.weight_bytes(),
            arena_bytes: memory.arena_bytes(),
            live_bytes: memory.live_bytes,
            steps: (0..self.steps.len()).map(|index| self.step_summary(index)).collect(),
        }
    }

    /// Bytes of the distinct weights.
    pub fn weight_bytes(&self) -> u64 {
        let weights = self.buffers.iter().filter_map(|buffer| match &buffer.kind {
            BufferKind::Weight { key, .. } => Some((key.as_str(), buffer.bytes)),
            _ => None,
        });
        weights.collect::<HashMap<_, _>>().values().sum()
    }

    fn step_summary(&self, index: usize) -> StepSummary {
        let step = &self.steps[index];
        let kernel = &step.dispatch.kernel;
        let bindings = step.bindings.iter().zip(&kernel.bindings).filter_map(|(id, access)| {
            let buffer = self.buffers.get(id.0 as usize)?;
            Some(BindingSummary {
                buffer: buffer.name.clone(),
                kind: match buffer.kind {
                    BufferKind::Input => "input",
                    BufferKind::Weight { .. } => "weight",
                    BufferKind::Temporary => "temporary",
                    BufferKind::Output => "output",
                },
                write: *access == Access::ReadWrite,
                bytes: buffer.bytes,
            })
        });
        StepSummary {
            kernel: kernel.name,
            variant: kernel.variant.clone(),
            label: step.label.clone(),
            workgroups: step.dispatch.workgroups,
            bindings: bindings.collect(),
        }
    }
}

/// One line per step, then the totals.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary().fmt(f)
    }
}

/// One line per step, then the totals.
impl fmt::Display for PlanSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernels: Vec<String> = self.steps.iter().map(StepSummary::name).collect();
        let grids: Vec<String> = self.steps.iter().map(StepSummary::grid).collect();
        let widest = |texts: &[String]| texts.iter().map(|t| t.chars().count()).max().unwrap_or(0);
        let (kernel_width, grid_width) = (widest(&kernels), widest(&grids));
        let label_width = self.steps.iter().map(|s| s.label.chars().count()).max().unwrap_or(0);
        for (index, step) in self.steps.iter().enumerate() {
            write!(
                f,
                "{index:>4}  {:kernel_width$}  {:label_width$}  {:>grid_width$} ",
                kernels[index], step.label, grids[index],
            )?;
            for (place, binding) in step.bindings.iter().enumerate() {
                // An arrow parts what is read from what is written.
                let arrow = binding.write && !step.bindings[..place].iter().any(|b| b.write);
                let arrow = if arrow { " ->" } else { "" };
                write!(f, "{arrow} {}:{}", binding.buffer, binding.bytes)?;
            }
            writeln!(f)?;
        }
        write!(
            f,
            "{} dispatches, {} weight bytes, {} arena bytes (at least {} are alive at once)",
            self.dispatches, self.weight_bytes, self.arena_bytes, self.live_bytes
        )
    }
}

impl StepSummary {
    fn name(&self) -> String {
        format!("{} [{}]", self.kernel, self.variant)
    }

    fn grid(&self) -> String {
        let [x, y, z] = self.workgroups;
        format!("{x}x{y}x{z}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::PlanBuilder;

    #[test]
    fn a_plan_prints_one_line_per_step_and_the_totals() {
        let mut plan = PlanBuilder::default();
        let x = plan.input("x", 100);
        let w = plan.weight("w", 4);
        let h = plan.temporary("h", 100);
        let y = plan.output("y", 100);
        plan.step("/embeddings/Mul", &[x, w], &[h]);
        plan.step("Add_1", &[h, w], &[y]);
        let plan = plan.build();
        insta::assert_snapshot!(plan, @r"
           0  nothing [plain]  /embeddings/Mul  1x1x1  x:400 w:16 -> h:400
           1  nothing [plain]  Add_1            1x1x1  h:400 w:16 -> y:400
        2 dispatches, 16 weight bytes, 1024 arena bytes (at least 1024 are alive at once)
        ");
        let step = serde_json::to_value(&plan.summary().steps[0].bindings[1]).unwrap();
        let expected =
            serde_json::json!({"buffer": "w", "kind": "weight", "write": false, "bytes": 16});
        assert_eq!(step, expected);
    }

    #[test]
    fn equal_weights_count_once() {
        let mut plan = PlanBuilder::default();
        let (x, y) = (plan.input("x", 1), plan.output("y", 1));
        let (a, b) = (plan.weight("w", 8), plan.weight("w", 8));
        plan.step("Sum", &[x, a, b], &[y]);
        assert_eq!(plan.build().summary().weight_bytes, 32);
    }
}
