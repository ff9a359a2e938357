//! Why a plan is as it is: where every node of the model went, and what chose each variant.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::summary::PlanSummary;

/// A node of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeName {
    /// Its name, or `OpType_index` where the file gives none.
    pub name: String,
    /// The operator's type, such as `MatMul`.
    pub op: String,
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.op)
    }
}

/// What chose the variant of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There is no other.
    #[default]
    Only,
    /// It comes first for this class of adapter.
    Default,
    /// It was the fastest when it was measured.
    Tuned,
    /// Somebody asked for it.
    Forced,
}

/// How a step came to its variant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What chose it.
    pub reason: Reason,
    /// The other variants that the adapter allows.
    pub alternatives: Vec<String>,
}

impl Choice {
    /// The first of several variants, of which `alternatives` are the others.
    pub fn first(alternatives: Vec<String>) -> Self {
        let reason = if alternatives.is_empty() { Reason::Only } else { Reason::Default };
        Self { reason, alternatives }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            Reason::Only => "the only one",
            Reason::Default => "the default for this class of adapter",
            Reason::Tuned => "the fastest when measured on this adapter",
            Reason::Forced => "asked for",
        })?;
        match self.alternatives.is_empty() {
            true => Ok(()),
            false => write!(f, "; open: {}", self.alternatives.join(", ")),
        }
    }
}

/// What became of a node that no step computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Its result is known before the run.
    Folded,
    /// Its result is another value, seen another way.
    View(String),
    /// The graph inside it was put in its place.
    WrittenOut,
    /// Nothing reads its result.
    Unread,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folded => f.write_str("folded into a constant"),
            Self::View(of) => write!(f, "a view of {of}"),
            Self::WrittenOut => f.write_str("the graph inside it is written out"),
            Self::Unread => f.write_str("nothing reads it"),
        }
    }
}

/// A node that no step computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The node.
    pub node: NodeName,
    /// What became of it.
    pub fate: Fate,
}

/// Prints what each step computes and what chose its variant, then where the other nodes are.
pub struct Why<'a>(pub &'a PlanSummary);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PlanSummary { steps, elsewhere, .. } = self.0;
        for (index, step) in steps.iter().enumerate() {
            let [x, y, z] = step.workgroups;
            writeln!(f, "{index:>4}  {} [{}]  {x}x{y}x{z}", step.kernel, step.variant)?;
            writeln!(f, "      variant: {}", step.choice)?;
            if step.nodes.is_empty() {
                // A copy that another step or an output needs: its label says so.
                writeln!(f, "      computes {}", step.label)?;
            }
            for node in &step.nodes {
                writeln!(f, "      computes {node}")?;
            }
        }
        if !elsewhere.is_empty() {
            writeln!(f, "No step of their own:")?;
        }
        for Elsewhere { node, fate } in elsewhere {
            writeln!(f, "      {node}: {fate}")?;
        }
        self.0.write_totals(f)
    }
}
