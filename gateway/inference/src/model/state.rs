//! What a model with state begins with.

use std::collections::HashMap;

use gw_engine::Value;
use gw_tensor::Tensor;

use crate::signature::{Dim, Signature, TensorSpec};
use crate::{InputProblem, ModelPolicy};

/// The most bytes of zeros that are made for one input: a state is far smaller, and a caller who
/// claims a huge dimension for an empty input must not get memory for it.
const ZEROS_BYTES_MAX: usize = 64 << 20;

/// Adds zeros for the state inputs that a request leaves out: so begins the first run of a
/// sequence. An open dimension has the size that its symbol has in an input that is given, else 1.
pub(super) fn begin(
    policy: &ModelPolicy,
    signature: &Signature,
    inputs: &mut Vec<(String, Value)>,
) -> Result<(), Box<InputProblem>> {
    let absent = |spec: &&TensorSpec| {
        policy.state.values().any(|input| *input == spec.name)
            && !inputs.iter().any(|(given, _)| *given == spec.name)
    };
    let absent: Vec<&TensorSpec> = signature.inputs.iter().filter(absent).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let sizes = sizes(signature, inputs);
    for spec in absent {
        let Some(dims) = &spec.dims else { continue };
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => *size,
            Dim::Symbol(symbol) => sizes.get(symbol.as_str()).copied().unwrap_or(1),
            Dim::Unknown => 1,
        };
        let dims: Vec<usize> = dims.iter().map(size).collect();
        let bytes = dims.iter().try_fold(spec.dtype.size(), |bytes, &size| bytes.checked_mul(size));
        let Some(bytes) = bytes.filter(|&bytes| bytes <= ZEROS_BYTES_MAX) else {
            let (name, bytes_max) = (spec.name.clone(), ZEROS_BYTES_MAX);
            return Err(InputProblem::Zeros { name, dims, bytes_max }.into());
        };
        let zeros = Tensor::new(spec.dtype, dims, vec![0; bytes]).expect("the size was computed");
        inputs.push((spec.name.clone(), zeros.into()));
    }
    Ok(())
}

/// The size of each symbol in the inputs that are given.
fn sizes<'s>(signature: &'s Signature, inputs: &[(String, Value)]) -> HashMap<&'s str, usize> {
    let mut sizes = HashMap::new();
    for spec in &signature.inputs {
        let given = inputs.iter().find(|(name, _)| *name == spec.name);
        let (Some((_, value)), Some(dims)) = (given, &spec.dims) else { continue };
        for (dim, &size) in dims.iter().zip(value.shape().iter()) {
            if let Dim::Symbol(symbol) = dim {
                sizes.entry(symbol.as_str()).or_insert(size);
            }
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gw_tensor::DType;

    use super::*;

    fn spec(name: &str, dtype: DType, dims: &[Dim]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), dtype, dims: Some(dims.to_vec()), entries: None }
    }

    /// `x: f32 [batch, length]`, `h: f16 [2, batch, ?, heads]` and `z: i64 [batch]`, of which `h`
    /// and `z` are state.
    fn begun(given: Vec<(String, Value)>) -> Result<Vec<(String, Value)>, String> {
        let symbol = |name: &str| Dim::Symbol(name.to_owned());
        let (batch, heads) = (symbol("batch"), symbol("heads"));
        let state = [Dim::Fixed(2), batch.clone(), Dim::Unknown, heads];
        let inputs = vec![
            spec("x", DType::F32, &[batch.clone(), symbol("length")]),
            spec("h", DType::F16, &state),
            spec("z", DType::I64, &[batch]),
        ];
        let signature = Signature { inputs, outputs: Vec::new() };
        let pair = |output: &str, input: &str| (output.to_owned(), input.to_owned());
        let state = BTreeMap::from([pair("hN", "h"), pair("zN", "z")]);
        let policy = ModelPolicy { state, ..ModelPolicy::default() };
        let mut inputs = given;
        begin(&policy, &signature, &mut inputs).map_err(|problem| problem.to_string())?;
        Ok(inputs)
    }

    fn x(dims: [usize; 2]) -> (String, Value) {
        let bytes = vec![1; dims[0] * dims[1] * 4];
        ("x".to_owned(), Tensor::new(DType::F32, dims, bytes).unwrap().into())
    }

    #[test]
    fn a_state_begins_with_zeros_of_the_sizes_that_are_given() {
        let inputs = begun(vec![x([3, 5])]).unwrap();
        let zeros = |name: &str| {
            let value = inputs.iter().find(|(given, _)| given == name).unwrap().1.host().unwrap();
            assert!(value.bytes().iter().all(|&byte| byte == 0), "{name}");
            (value.dtype(), value.shape().to_vec())
        };
        assert_eq!(zeros("h"), (DType::F16, vec![2, 3, 1, 1]));
        assert_eq!(zeros("z"), (DType::I64, vec![3]));
        assert_eq!(inputs.len(), 3);
    }

    #[test]
    fn what_is_given_stays_and_binds_the_rest() {
        let z = Tensor::from_slice([2], &[7i64, 8]).unwrap();
        let inputs = begun(vec![("z".to_owned(), z.clone().into())]).unwrap();
        assert_eq!(inputs[0].1.host(), Some(&z));
        assert_eq!(inputs[1].0, "h");
        assert_eq!(inputs[1].1.shape().dims(), [2, 2, 1, 1]);
        assert_eq!(inputs.len(), 2, "x is no state");
    }

    #[test]
    fn a_claimed_size_gets_no_memory() {
        // No element, so no byte was paid for it.
        for rows in [1 << 40, usize::MAX] {
            let error = begun(vec![x([rows, 0])]).unwrap_err();
            let expected =
                format!("input \"h\" would begin with zeros of [2, {rows}, 1, 1], which is more");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
