//! How one model is served, where that differs from model to model.

use std::collections::BTreeMap;
use std::time::Duration;

use gw_artifact::{Digest, Hasher};
use gw_tensor::DType;

use crate::signature::{Dim, Signature, TensorSpec};

/// What a manifest says about how a model is served. Two that differ are served apart, though the
/// file is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ModelPolicy {
    /// Rows that one run may join, at most the node's
    /// [`batch_max`](crate::InferenceConfig::batch_max); 1 joins nothing. `None` is that limit.
    pub batch_max: Option<usize>,
    /// How long a request waits for others to join its run. Default: not at all, but behind a run
    /// that several shared, where the first waits for the others for a hundredth of it.
    pub max_delay: Duration,
    /// Inputs that may be made longer in their open dimensions, and the value to fill them with:
    /// so requests of different lengths share a run. Empty: only equal lengths do.
    pub pad: BTreeMap<String, i64>,
    /// How long the model stays in memory when nobody asks it. `None` is the node's.
    pub keep_alive: Option<Duration>,
    /// Whether it is never evicted to make room for others.
    pub pinned: bool,
    /// Whether a request fails whose answer holds what is not a number; else that is only counted,
    /// in `gw_nan_outputs_total`. Infinity is a number, and what stays on a GPU is not looked at.
    pub refuse_nan: bool,
    /// Outputs that are the state of an execution context, each with the input that takes it in the
    /// next run. A model with state is never batched.
    pub state: BTreeMap<String, String>,
}

impl ModelPolicy {
    /// The digest of what decides answers: equal ones answer equally. Taken apart in full, so that
    /// a new field cannot be forgotten here.
    pub fn answers_digest(&self) -> Digest {
        let Self { batch_max: _, max_delay: _, pad, keep_alive: _, pinned: _, refuse_nan, state } =
            self;
        let mut hasher = Hasher::new();
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(&pad.len().to_le_bytes());
        for (input, value) in pad {
            field(input.as_bytes());
            field(&value.to_le_bytes());
        }
        field(&[u8::from(*refuse_nan)]);
        field(&state.len().to_le_bytes());
        for (output, input) in state {
            field(output.as_bytes());
            field(input.as_bytes());
        }
        hasher.finish()
    }

    /// Whether a model with this signature can be served so.
    ///
    /// # Errors
    /// The first key that names what the model does not have, or what does not fit it.
    pub fn check(&self, signature: &Signature) -> Result<(), PolicyProblem> {
        for (name, &value) in &self.pad {
            let input = find(&signature.inputs, name)
                .ok_or_else(|| unknown("pad", "input", name, &signature.inputs))?;
            if !input.dims.iter().flatten().skip(1).any(|dim| !matches!(dim, Dim::Fixed(_))) {
                return Err(PolicyProblem::NothingToPad { input: input.to_string() });
            }
            if !may_hold(input, value) {
                return Err(PolicyProblem::PadValue { input: input.to_string(), value });
            }
        }
        for (output, input) in &self.state {
            let output = find(&signature.outputs, output)
                .ok_or_else(|| unknown("state", "output", output, &signature.outputs))?;
            let input = find(&signature.inputs, input)
                .ok_or_else(|| unknown("state", "input", input, &signature.inputs))?;
            if input.dims.is_none() {
                return Err(PolicyProblem::NoShape { input: input.name.clone() });
            }
            if output.dtype != input.dtype || !may_fit(output, input) {
                let (output, input) = (output.to_string(), input.to_string());
                return Err(PolicyProblem::Misfit { output, input });
            }
        }
        Ok(())
    }
}

fn find<'s>(specs: &'s [TensorSpec], name: &str) -> Option<&'s TensorSpec> {
    specs.iter().find(|spec| spec.name == name)
}

fn unknown(
    key: &'static str,
    what: &'static str,
    name: &str,
    specs: &[TensorSpec],
) -> PolicyProblem {
    let there_are: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    PolicyProblem::Unknown { key, what, name: name.to_owned(), there_are: there_are.join(", ") }
}

/// Whether the elements of an input may be this number. An index must be in its table, and every
/// device computes wider integers in 32 bits.
fn may_hold(input: &TensorSpec, value: i64) -> bool {
    let range = match input.dtype {
        DType::Bool => 0..=1,
        DType::U8 => 0..=i64::from(u8::MAX),
        DType::I8 => i64::from(i8::MIN)..=i64::from(i8::MAX),
        DType::U16 => 0..=i64::from(u16::MAX),
        DType::I16 => i64::from(i16::MIN)..=i64::from(i16::MAX),
        DType::U32 | DType::U64 => 0..=i64::from(i32::MAX),
        _ => i64::from(i32::MIN)..=i64::from(i32::MAX),
    };
    let entries = input.entries.and_then(|entries| i64::try_from(entries).ok());
    range.contains(&value) && entries.is_none_or(|entries| (-entries..entries).contains(&value))
}

/// Whether some shape of the output is one of the input. What the file leaves open may fit.
fn may_fit(output: &TensorSpec, input: &TensorSpec) -> bool {
    let (Some(output), Some(input)) = (&output.dims, &input.dims) else { return true };
    let differ = |pair: (&Dim, &Dim)| match pair {
        (Dim::Fixed(one), Dim::Fixed(other)) => one != other,
        _ => false,
    };
    output.len() == input.len() && !output.iter().zip(input).any(differ)
}

/// Why a model cannot be served as its manifest says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyProblem {
    /// A key names what the model does not have.
    #[error("`{key}` names the {what} {name:?}; the {what}s of the model are {there_are}")]
    Unknown {
        /// The key.
        key: &'static str,
        /// `input` or `output`.
        what: &'static str,
        /// What it names.
        name: String,
        /// What there is.
        there_are: String,
    },
    /// An input has the same length in every request.
    #[error(
        "`pad` names the input {input}, which has no open dimension behind its first; leave it out"
    )]
    NothingToPad {
        /// The input, with its type and shape.
        input: String,
    },
    /// An input cannot be filled with this.
    #[error("`pad` fills the input {input} with {value}, which it cannot hold; use another number")]
    PadValue {
        /// The input, with its type and shape.
        input: String,
        /// The number.
        value: i64,
    },
    /// Nobody could say what the first run begins with.
    #[error(
        "`state` names the input {input:?}, of which the model file does not declare the shape; \
         export the model with it, or leave the input out and pass it by hand"
    )]
    NoShape {
        /// The input.
        input: String,
    },
    /// What a run gives cannot be what the next one takes.
    #[error("`state` gives the output {output} to the input {input}, which differ; name others")]
    Misfit {
        /// The output, with its type and shape.
        output: String,
        /// The input, with its type and shape.
        input: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name dtype dims`, such as `x f32 batch 3`; without dims even the rank is open.
    fn spec(text: &str) -> TensorSpec {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap().to_owned();
        let dtype = match words.next().unwrap() {
            "f32" => DType::F32,
            "u8" => DType::U8,
            _ => DType::I64,
        };
        let dim = |text: &str| match text.parse() {
            Ok(size) => Dim::Fixed(size),
            Err(_) => Dim::Symbol(text.to_owned()),
        };
        let dims: Vec<Dim> = words.map(dim).collect();
        let entries = (name == "ids").then_some(100);
        TensorSpec { name, dtype, dims: (!dims.is_empty()).then_some(dims), entries }
    }

    fn problem(policy: &ModelPolicy) -> String {
        let signature = Signature {
            inputs: ["ids i64 n length", "x u8 n length", "h f32 n 4", "any f32"].map(spec).into(),
            outputs: ["y f32 n length", "hN f32 m 4", "wide f32 n 8", "open f32"].map(spec).into(),
        };
        policy.check(&signature).map_or_else(|problem| problem.to_string(), |()| "fits".to_owned())
    }

    fn padded(input: &str, value: i64) -> ModelPolicy {
        ModelPolicy { pad: BTreeMap::from([(input.to_owned(), value)]), ..ModelPolicy::default() }
    }

    fn stateful(output: &str, input: &str) -> ModelPolicy {
        let state = BTreeMap::from([(output.to_owned(), input.to_owned())]);
        ModelPolicy { state, ..ModelPolicy::default() }
    }

    #[test]
    fn what_a_policy_names_must_be_in_the_model_and_fit() {
        let problems = [
            problem(&ModelPolicy::default()),
            problem(&padded("ids", -100)),
            problem(&padded("ids", 100)),
            problem(&padded("x", 255)),
            problem(&padded("x", -1)),
            problem(&padded("y", 0)),
            problem(&padded("h", 0)),
            problem(&stateful("hN", "h")),
            problem(&stateful("open", "h")),
            problem(&stateful("h", "h")),
            problem(&stateful("hN", "hN")),
            problem(&stateful("hN", "any")),
            problem(&stateful("hN", "x")),
            problem(&stateful("wide", "h")),
        ];
        insta::assert_snapshot!(problems.join("\n"));
    }

    #[test]
    fn only_what_decides_answers_is_in_their_digest() {
        let plain = ModelPolicy::default();
        let served = ModelPolicy {
            batch_max: Some(1),
            max_delay: Duration::from_millis(2),
            keep_alive: Some(Duration::ZERO),
            pinned: true,
            ..ModelPolicy::default()
        };
        assert_eq!(served.answers_digest(), plain.answers_digest());
        let refusing = ModelPolicy { refuse_nan: true, ..ModelPolicy::default() };
        let policies =
            [plain, refusing, padded("a", 0), padded("a", 1), padded("b", 0), stateful("a", "b")];
        for (index, one) in policies.iter().enumerate() {
            for other in &policies[index + 1..] {
                assert_ne!(one.answers_digest(), other.answers_digest(), "{one:?} and {other:?}");
            }
        }
    }
}
