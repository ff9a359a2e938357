//! What a run is asked with: its inputs in order, and what decides its plan.

use std::collections::BTreeMap;

use gw_tensor::{DType, Shape};

use super::error::RunError;
use crate::graph::Dim;
use crate::model::{PortSignature, Signature};
use crate::net::oracle::Answer;
use crate::plan::{Plan, Port};

/// What decides a plan: the shape of every input, then what is known of the run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Shape(Shape),
    Known(Answer),
}

impl Part {
    /// The shapes of a run's inputs, which are in order.
    pub(super) fn shapes<'a>(inputs: impl Iterator<Item = &'a Shape>) -> Vec<Self> {
        inputs.map(|shape| Self::Shape(shape.clone())).collect()
    }

    /// The shapes by the names of the inputs, and the answers in order.
    pub(super) fn apart(
        key: &[Self],
        signature: &Signature,
    ) -> (BTreeMap<String, Shape>, Vec<Answer>) {
        let mut names = signature.inputs.iter().map(|port| port.name.clone());
        let (mut shapes, mut answers) = (BTreeMap::new(), Vec::new());
        for part in key {
            match part {
                Self::Shape(shape) => shapes.extend(names.next().zip(Some(shape.clone()))),
                Self::Known(answer) => answers.push(answer.clone()),
            }
        }
        (shapes, answers)
    }
}

impl Signature {
    /// What a plan takes and gives.
    pub(super) fn of_plan(plan: &Plan) -> Self {
        let port = |port: &Port| PortSignature {
            name: port.name.clone(),
            dtype: port.dtype,
            dims: Some(port.shape.iter().map(|&size| Dim::Fixed(size)).collect()),
        };
        Self {
            inputs: plan.inputs.iter().map(port).collect(),
            outputs: plan.outputs.iter().map(port).collect(),
        }
    }

    /// The inputs in the model's order, each with the type that the model declares.
    pub(super) fn ordered<'a, T: Clone>(
        &self,
        inputs: impl Iterator<Item = (&'a String, DType, T)>,
    ) -> Result<Vec<T>, RunError> {
        let mut ordered = vec![None; self.inputs.len()];
        for (name, given, value) in inputs {
            let index = self.index(name).ok_or_else(|| self.unknown(name))?;
            let expected = self.inputs[index].dtype;
            if expected != given {
                return Err(RunError::DType { input: name.clone(), expected, given });
            }
            if ordered[index].replace(value).is_some() {
                return Err(RunError::RepeatedInput { input: name.clone() });
            }
        }
        let named = ordered.into_iter().zip(&self.inputs);
        named
            .map(|(value, port)| {
                value.ok_or_else(|| RunError::MissingInput { input: port.name.clone() })
            })
            .collect()
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|port| port.name == name)
    }

    pub(super) fn unknown(&self, input: &str) -> RunError {
        RunError::UnknownInput {
            input: input.to_owned(),
            known: self.inputs.iter().map(|port| port.name.clone()).collect(),
        }
    }
}
