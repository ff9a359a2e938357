//! What a model takes and gives, and whether a request fits.

use std::collections::HashMap;
use std::fmt;

use gw_engine::Value;
pub use gw_engine::graph::Dim;
use gw_tensor::{DType, Element, Shape, Tensor};

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
    /// How many entries the table has that the model looks its integers up in; negative ones count
    /// from the end. `None` where there is no such table.
    pub entries: Option<usize>,
}

impl Signature {
    /// Puts the tensors of a request in the signature's order, if they fit it.
    ///
    /// A `u8` tensor is taken for a `bool` input: callers over wasi-nn have no other way to say it.
    ///
    /// # Errors
    /// The first [`InputProblem`], so that a request is refused before it can join a batch.
    pub fn check(&self, given: Vec<(String, Tensor)>) -> Result<Vec<Tensor>, Box<InputProblem>> {
        let given = given.into_iter().map(|(name, tensor)| (name, tensor.into())).collect();
        let ordered = self.check_values(given)?.into_iter();
        let host = |value| match value {
            Value::Host(tensor) => Some(tensor),
            Value::Device(_) => None,
        };
        Ok(ordered.filter_map(host).collect())
    }

    /// As [`Self::check`], of values. The elements of one on a device are not looked at: it is read
    /// back before the run where they are looked up in a table.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_values(
        &self,
        given: Vec<(String, Value)>,
    ) -> Result<Vec<Value>, Box<InputProblem>> {
        let mut slots: Vec<Option<Value>> = vec![None; self.inputs.len()];
        for (name, value) in given {
            let Some(at) = self.inputs.iter().position(|spec| spec.name == name) else {
                let expected = self.inputs.iter().map(|spec| spec.name.clone()).collect();
                return Err(InputProblem::Unknown { name, expected }.into());
            };
            if slots[at].replace(value).is_some() {
                return Err(InputProblem::Repeated { name }.into());
            }
        }
        let mut symbols = HashMap::new();
        let mut ordered = Vec::with_capacity(slots.len());
        for (spec, slot) in self.inputs.iter().zip(slots) {
            let value = slot.ok_or_else(|| InputProblem::Missing { name: spec.name.clone() })?;
            let value = spec.check_dtype(value)?;
            spec.check_shape(value.shape(), &mut symbols)?;
            // A device holds nothing that does not fit its integers.
            if let Value::Host(tensor) = &value {
                spec.check_range(tensor)?;
            }
            ordered.push(value);
        }
        Ok(ordered)
    }

    /// Whether the elements of the input of this name must be within a table, wherever they lie.
    pub(crate) fn looks_at(&self, input: &str) -> bool {
        self.inputs.iter().any(|spec| spec.name == input && spec.entries.is_some())
    }
}

impl TensorSpec {
    fn check_dtype(&self, value: Value) -> Result<Value, InputProblem> {
        match (self.dtype, value.dtype(), &value) {
            (expected, given, _) if expected == given => Ok(value),
            (DType::Bool, DType::U8, Value::Host(tensor)) => {
                Ok(Tensor::new(DType::Bool, tensor.shape().clone(), tensor.bytes().clone())
                    .expect("bool and u8 elements have one size")
                    .into())
            }
            (expected, given, _) => {
                Err(InputProblem::DType { name: self.name.clone(), expected, given })
            }
        }
    }

    fn check_shape<'a>(
        &'a self,
        shape: &Shape,
        symbols: &mut HashMap<&'a str, usize>,
    ) -> Result<(), InputProblem> {
        let Some(dims) = &self.dims else { return Ok(()) };
        let shape_problem = || InputProblem::Shape {
            name: self.name.clone(),
            expected: dims_text(dims),
            given: shape.clone(),
        };
        if dims.len() != shape.len() {
            return Err(shape_problem());
        }
        for (dim, &size) in dims.iter().zip(shape.iter()) {
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

    /// Every device computes integers in 32 bits, so wider ones must fit. Those that are looked up
    /// must be in the table: devices differ in what they make of others.
    fn check_range(&self, tensor: &Tensor) -> Result<(), InputProblem> {
        let bits = i128::from(i32::MIN)..=i128::from(i32::MAX);
        let table = self.entries.map_or(i128::MIN, |entries| -(entries as i128))
            ..self.entries.map_or(i128::MAX, |entries| entries as i128);
        let fits = |value: i128| bits.contains(&value) && table.contains(&value);
        let misfit = match tensor.dtype() {
            DType::I64 => first_not::<i64>(tensor, fits),
            DType::U64 => first_not::<u64>(tensor, fits),
            DType::U32 => first_not::<u32>(tensor, fits),
            DType::I32 if self.entries.is_some() => first_not::<i32>(tensor, fits),
            _ => None,
        };
        let Some((index, value)) = misfit else { return Ok(()) };
        let name = self.name.clone();
        Err(match self.entries {
            Some(entries) => InputProblem::Entry { name, index, value, entries },
            None => InputProblem::Range { name, index, value },
        })
    }
}

/// The first element that is not as wanted, with its index.
fn first_not<T: Element + Into<i128>>(
    tensor: &Tensor,
    wanted: impl Fn(i128) -> bool,
) -> Option<(usize, i128)> {
    let values = tensor.as_slice::<T>().expect("the element type was just matched");
    let mut values = values.iter().map(|&value| value.into()).enumerate();
    values.find(|&(_, value)| !wanted(value))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DType, dims: Vec<Dim>) -> TensorSpec {
        TensorSpec { name: name.to_owned(), dtype, dims: Some(dims), entries: None }
    }

    fn signature() -> Signature {
        let symbol = |name: &str| Dim::Symbol(name.to_owned());
        Signature {
            inputs: vec![
                spec("ids", DType::I64, vec![symbol("batch"), symbol("sequence")]),
                spec("mask", DType::Bool, vec![symbol("batch"), symbol("sequence")]),
                spec("scale", DType::F32, vec![Dim::Unknown, Dim::Fixed(3)]),
            ],
            outputs: Vec::new(),
        }
    }

    fn tensor(dtype: DType, dims: &[usize]) -> Tensor {
        let bytes = dims.iter().product::<usize>() * dtype.size();
        Tensor::new(dtype, dims, vec![0; bytes]).unwrap()
    }

    /// A request that fits.
    fn request() -> Vec<(String, Tensor)> {
        vec![
            ("scale".to_owned(), tensor(DType::F32, &[7, 3])),
            ("mask".to_owned(), tensor(DType::U8, &[2, 5])),
            ("ids".to_owned(), tensor(DType::I64, &[2, 5])),
        ]
    }

    fn problem(change: impl FnOnce(&mut Vec<(String, Tensor)>)) -> String {
        let mut request = request();
        change(&mut request);
        signature().check(request).unwrap_err().to_string()
    }

    #[test]
    fn a_request_that_fits_is_put_in_the_models_order() {
        let ordered = signature().check(request()).unwrap();
        let types: Vec<DType> = ordered.iter().map(Tensor::dtype).collect();
        assert_eq!(types, [DType::I64, DType::Bool, DType::F32]);
    }

    #[test]
    fn every_misfit_is_named() {
        let problems = [
            problem(|r| drop(r.pop())),
            problem(|r| r[1].0 = "mas".to_owned()),
            problem(|r| r[1].0 = "ids".to_owned()),
            problem(|r| r[2].1 = tensor(DType::I32, &[2, 5])),
            problem(|r| r[2].1 = tensor(DType::I64, &[2, 5, 1])),
            problem(|r| r[0].1 = tensor(DType::F32, &[7, 4])),
            problem(|r| r[1].1 = tensor(DType::Bool, &[2, 6])),
            problem(|r| r[2].1 = Tensor::from_slice([2, 1], &[1i64, 1 << 31]).unwrap()),
        ];
        insta::assert_snapshot!(problems.join("\n"), @r#"
        input "ids" is missing
        there is no input "mas"; the inputs are ids, mask, scale
        input "ids" is given twice
        input "ids" takes i64, not i32
        input "ids" takes the shape [batch, sequence], not [2, 5, 1]
        input "scale" takes the shape [?, 3], not [7, 4]
        input "mask" has 6 for sequence, but an earlier input has 5
        input "ids" holds 2147483648 at index 1, outside the 32-bit range in which devices compute
        "#);
    }

    #[test]
    fn integers_that_are_looked_up_must_be_in_the_table() {
        let ids = spec("ids", DType::I32, vec![Dim::Unknown]);
        let inputs = vec![TensorSpec { entries: Some(5), ..ids }];
        let signature = Signature { inputs, outputs: Vec::new() };
        let check = |ids: &[i32]| {
            let ids = Tensor::from_slice([ids.len()], ids).unwrap();
            signature.check(vec![("ids".to_owned(), ids)]).map(drop)
        };
        assert_eq!(check(&[0, 4, -5, -1]), Ok(()));
        assert!(check(&[0, -6]).is_err());
        assert_eq!(
            check(&[0, 1, 5]).unwrap_err().to_string(),
            "input \"ids\" holds 5 at index 2, but the table that it is looked up in takes -5 to 4"
        );
    }

    #[test]
    fn a_signature_prints_as_the_model_declares_it() {
        assert_eq!(signature().inputs[0].to_string(), "ids: i64 [batch, sequence]");
        assert_eq!(signature().inputs[2].to_string(), "scale: f32 [?, 3]");
        let any =
            TensorSpec { name: "any".to_owned(), dtype: DType::U8, dims: None, entries: None };
        assert_eq!(any.to_string(), "any: u8 [...]");
    }
}
