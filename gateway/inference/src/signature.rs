//! What a model takes and gives, and whether a request fits.

use std::collections::HashMap;
use std::fmt;

pub use gw_engine::graph::Dim;
use gw_tensor::{DType, Tensor};

use crate::InputProblem;

/// The inputs and outputs of a model, in its own order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// What a request must give.
    pub inputs: Vec<TensorSpec>,
    /// What an answer holds.
    pub outputs: Vec<TensorSpec>,
}

/// One named tensor of a [`Signature`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name in the model file, kept exactly.
    pub name: String,
    /// The element type that callers see.
    pub dtype: DType,
    /// The dimensions; `None` where the file leaves even the rank open.
    pub dims: Option<Vec<Dim>>,
}

impl Signature {
    /// Puts the tensors of a request in the signature's order, if they fit it.
    ///
    /// A `u8` tensor is taken for a `bool` input: callers over wasi-nn have no other way to say it.
    ///
    /// # Errors
    /// The first [`InputProblem`], so that a request is refused before it can join a batch.
    pub fn check(&self, given: Vec<(String, Tensor)>) -> Result<Vec<Tensor>, InputProblem> {
        let mut slots: Vec<Option<Tensor>> = vec![None; self.inputs.len()];
        for (name, tensor) in given {
            let Some(at) = self.inputs.iter().position(|spec| spec.name == name) else {
                let expected = self.inputs.iter().map(|spec| spec.name.clone()).collect();
                return Err(InputProblem::Unknown { name, expected });
            };
            if slots[at].replace(tensor).is_some() {
                return Err(InputProblem::Repeated { name });
            }
        }
        let mut symbols = HashMap::new();
        let mut ordered = Vec::with_capacity(slots.len());
        for (spec, slot) in self.inputs.iter().zip(slots) {
            let tensor = slot.ok_or_else(|| InputProblem::Missing { name: spec.name.clone() })?;
            let tensor = spec.check_dtype(tensor)?;
            spec.check_shape(&tensor, &mut symbols)?;
            spec.check_range(&tensor)?;
            ordered.push(tensor);
        }
        Ok(ordered)
    }
}

impl TensorSpec {
    fn check_dtype(&self, tensor: Tensor) -> Result<Tensor, InputProblem> {
        match (self.dtype, tensor.dtype()) {
            (expected, given) if expected == given => Ok(tensor),
            (DType::Bool, DType::U8) => {
                Ok(Tensor::new(DType::Bool, tensor.shape().clone(), tensor.bytes().clone())
                    .expect("bool and u8 elements have one size"))
            }
            (expected, given) => {
                Err(InputProblem::DType { name: self.name.clone(), expected, given })
            }
        }
    }

    fn check_shape<'a>(
        &'a self,
        tensor: &Tensor,
        symbols: &mut HashMap<&'a str, usize>,
    ) -> Result<(), InputProblem> {
        let Some(dims) = &self.dims else { return Ok(()) };
        let shape_problem = || InputProblem::Shape {
            name: self.name.clone(),
            expected: dims_text(dims),
            given: tensor.shape().clone(),
        };
        if dims.len() != tensor.shape().len() {
            return Err(shape_problem());
        }
        for (dim, &size) in dims.iter().zip(tensor.shape().iter()) {
            match dim {
                Dim::Fixed(fixed) if *fixed != size => return Err(shape_problem()),
                Dim::Symbol(symbol) => {
                    let earlier = *symbols.entry(symbol).or_insert(size);
                    if earlier != size {
                        let (symbol, name) = (symbol.clone(), self.name.clone());
                        return Err(InputProblem::Symbol { symbol, name, size, earlier });
                    }
                }
                Dim::Fixed(_) | Dim::Unknown => {}
            }
        }
        Ok(())
    }

    /// Every device computes integers in 32 bits, so wider ones must fit.
    fn check_range(&self, tensor: &Tensor) -> Result<(), InputProblem> {
        if tensor.dtype() != DType::I64 {
            return Ok(());
        }
        let values = tensor.as_slice::<i64>().expect("the element type was checked");
        match values.iter().position(|&value| i32::try_from(value).is_err()) {
            None => Ok(()),
            Some(index) => {
                Err(InputProblem::Range { name: self.name.clone(), index, value: values[index] })
            }
        }
    }
}

/// Prints as `input_ids: i64 [batch, sequence]`.
impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = self.dims.as_deref().map_or_else(|| "[...]".to_owned(), dims_text);
        write!(f, "{}: {} {dims}", self.name, self.dtype)
    }
}

fn dims_text(dims: &[Dim]) -> String {
    let dims: Vec<String> = dims
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(size) => size.to_string(),
            Dim::Symbol(symbol) => symbol.clone(),
            Dim::Unknown => "?".to_owned(),
        })
        .collect();
    format!("[{}]", dims.join(", "))
}
