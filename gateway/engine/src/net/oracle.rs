//! Values of a run that decide what its graph is: sizes, axes, conditions, counts.
//!
//! Building is deterministic, so it can stop at the first value that it lacks and start anew once
//! the value is there. A value that small inputs of the model decide is had by taking those
//! inputs as constants; any other by running the graph up to it.

use std::collections::VecDeque;

use gw_tensor::Tensor;

use super::{Net, TensorId};
use crate::error::OpError;

/// Inputs with more elements than this are data, not sizes: a plan for each of their values would
/// be a plan for each run.
const PINNED_ELEMENTS_MAX: usize = 1 << 10;

/// What one run may ask, at most: a loop that goes on for longer is a mistake or an attack.
pub(crate) const QUESTIONS_MAX: usize = 1 << 10;

/// A value of one run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// Of an input of the model.
    Input(usize, Tensor),
    /// Of a tensor that the graph computes.
    Value(Tensor),
}

/// What building needs to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// The value of an input of the model.
    Input(usize),
    /// The value of a tensor that the nodes built so far compute.
    Value(TensorId),
}

/// Answers in the order in which building asks, and the first question that has none.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    values: VecDeque<Tensor>,
    pub(crate) question: Option<Question>,
    asked: usize,
}

impl Oracle {
    /// Takes the answers that are no inputs; inputs are constants from the start.
    pub(crate) fn new(answers: &[Answer]) -> Self {
        let value = |answer: &Answer| match answer {
            Answer::Value(tensor) => Some(tensor.clone()),
            Answer::Input(..) => None,
        };
        Self { values: answers.iter().filter_map(value).collect(), question: None, asked: 0 }
    }

    /// Makes `tensor` a constant, or stops building with a question.
    pub(crate) fn ask(
        &mut self,
        net: &mut Net,
        tensor: TensorId,
        what: &str,
    ) -> Result<(), OpError> {
        let dynamic = || OpError::Dynamic(what.to_owned());
        if let Some(input) = pinnable(net, tensor) {
            self.question = Some(Question::Input(input));
            return Err(dynamic());
        }
        self.asked += 1;
        if self.asked > QUESTIONS_MAX {
            return Err(OpError::Unsupported(format!(
                "deciding what to run by more than {QUESTIONS_MAX} values of the run"
            )));
        }
        let Some(answer) = self.values.pop_front() else {
            self.question = Some(Question::Value(tensor));
            return Err(dynamic());
        };
        let asked = &mut net.tensors[tensor.0 as usize];
        if answer.dtype() != asked.dtype || *answer.shape() != asked.shape {
            return Err(dynamic());
        }
        asked.constant = Some(answer);
        Ok(())
    }
}

/// An input that, with others that are small too, decides `tensor`.
fn pinnable(net: &Net, tensor: TensorId) -> Option<usize> {
    let mut needed = vec![false; net.tensors.len()];
    needed[tensor.0 as usize] = true;
    for node in net.nodes.iter().rev().flatten() {
        let made = node.output.tensor;
        if needed[made.0 as usize] && net.tensor(made).constant.is_none() {
            for input in &node.inputs {
                needed[input.tensor.0 as usize] = true;
            }
        }
    }
    let open = |id: TensorId| needed[id.0 as usize] && net.tensor(id).constant.is_none();
    let asked: Vec<usize> =
        (0..net.inputs.len()).filter(|&input| open(net.inputs[input].tensor)).collect();
    let elements = |&input: &usize| net.tensor(net.inputs[input].tensor).shape.elements();
    let alone = net.inputs.iter().position(|input| input.tensor == tensor);
    match asked.iter().map(elements).sum::<usize>() <= PINNED_ELEMENTS_MAX {
        true => asked.first().copied(),
        // The input itself is what is asked for, however large it is.
        false => alone,
    }
}
