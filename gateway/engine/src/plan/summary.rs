//! A plan as text, for people and snapshots, and as JSON, for tools.

use std::collections::HashMap;
use std::fmt;

use gw_shaders::kernel::Access;
use serde::Serialize;

use super::memory::{self, MemoryLimits, MemoryPlan};
use super::why::{Choice, Elsewhere, NodeName};
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
    /// The nodes of the model that no step computes.
    pub elsewhere: Vec<Elsewhere>,
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
    /// The same nodes, each with its operator.
    pub nodes: Vec<NodeName>,
    /// What chose the variant.
    pub choice: Choice,
    /// The grid.
    pub workgroups: [u32; 3],
    /// Operations; a multiply-add is two.
    pub flops: u64,
    /// Bytes that must move, each counted once.
    pub bytes: u64,
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
            elsewhere: self.elsewhere.clone(),
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
            nodes: step.nodes.clone(),
            choice: step.choice.clone(),
            workgroups: step.dispatch.workgroups,
            flops: step.cost.flops,
            bytes: step.cost.bytes,
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

/// What a column of a listing may take; a line has some 110 characters then.
const KERNEL_WIDTH: usize = 36;
const LABEL_WIDTH: usize = 32;
const OUTPUT_WIDTH: usize = 20;

/// One line per step, then the totals. What does not fit its column is cut: the JSON has all of it.
impl fmt::Display for PlanSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 4]> = self.steps.iter().map(StepSummary::columns).collect();
        let width = |column: usize| {
            rows.iter().map(|row: &[String; 4]| row[column].chars().count()).max().unwrap_or(0)
        };
        let (kernel_width, grid_width, label_width) = (width(0), width(1), width(2));
        for (index, [kernel, grid, label, output]) in rows.iter().enumerate() {
            writeln!(
                f,
                "{index:>4}  {kernel:kernel_width$}  {grid:>grid_width$}  {label:label_width$}  -> \
                 {output}"
            )?;
        }
        self.write_totals(f)
    }
}

impl PlanSummary {
    pub(super) fn write_totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} dispatches, {} weight bytes, {} arena bytes (at least {} are alive at once)",
            self.dispatches, self.weight_bytes, self.arena_bytes, self.live_bytes
        )
    }
}

impl StepSummary {
    /// The kernel, its grid, the nodes, and what it writes.
    fn columns(&self) -> [String; 4] {
        let kernel = format!("{} [{}]", self.kernel, self.variant);
        let [x, y, z] = self.workgroups;
        let written: Vec<String> = self
            .bindings
            .iter()
            .filter(|binding| binding.write)
            .map(|binding| {
                format!("{} {}", cut(&binding.buffer, OUTPUT_WIDTH), size(binding.bytes))
            })
            .collect();
        let more =
            if written.len() > 1 { format!(" +{}", written.len() - 1) } else { String::new() };
        let output = written.first().map_or_else(|| "nothing".to_owned(), Clone::clone);
        [
            cut(&kernel, KERNEL_WIDTH),
            format!("{x}x{y}x{z}"),
            cut(&self.label, LABEL_WIDTH),
            format!("{output}{more}"),
        ]
    }
}

/// The start of a text, and its end if that is where names differ.
pub(crate) fn cut(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let (head, tail) = (width.div_ceil(2), width / 2 - 1);
    let start = text.chars().take(head);
    start.chain(['…']).chain(text.chars().skip(count - tail)).collect()
}

/// A number of bytes in three or four digits.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_240_000 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes >> 20),
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
           0  nothing [plain]  1x1x1  /embeddings/Mul  -> h 400 B
           1  nothing [plain]  1x1x1  Add_1            -> y 400 B
        2 dispatches, 16 weight bytes, 1024 arena bytes (at least 1024 are alive at once)
        ");
        let step = serde_json::to_value(&plan.summary().steps[0].bindings[1]).unwrap();
        let expected =
            serde_json::json!({"buffer": "w", "kind": "weight", "write": false, "bytes": 16});
        assert_eq!(step, expected);
    }

    #[test]
    fn a_line_stays_short_whatever_the_names() {
        let mut plan = PlanBuilder::default();
        let (x, y) = (plan.input("x", 100), plan.output(&"/decoder/layer".repeat(9), 1 << 20));
        plan.step(&"/model/block/very/deep/Mul + ".repeat(9), &[x], &[y]);
        let text = plan.build().to_string();
        let line = text.lines().next().unwrap();
        assert!(line.chars().count() <= 110, "{line}");
        assert!(line.contains("/model/block") && line.contains('…'), "{line}");
        assert!(line.ends_with("KiB"), "{line}");
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
