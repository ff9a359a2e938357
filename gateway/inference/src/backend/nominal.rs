//! Inputs that nobody asked for, to try a model with.

use std::collections::{BTreeMap, HashMap};

use gw_tensor::{DType, Shape, Tensor};
use half::f16;

use crate::Signature;
use crate::signature::Dim;

/// One row, and 32 in every other free dimension: enough for the strides of an image model and a
/// common length of text. `None` where even a rank is open.
pub(super) fn nominal_shapes(signature: &Signature) -> Option<BTreeMap<String, Shape>> {
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    let mut shapes = BTreeMap::new();
    for spec in &signature.inputs {
        let mut shape = Vec::new();
        for (axis, dim) in spec.dims.as_ref()?.iter().enumerate() {
            let free = if axis == 0 { 1 } else { 32 };
            shape.push(match dim {
                Dim::Fixed(size) => *size,
                Dim::Symbol(symbol) => *sizes.entry(symbol).or_insert(free),
                Dim::Unknown => free,
            });
        }
        shapes.insert(spec.name.clone(), shape.into());
    }
    Some(shapes)
}

/// Tensors of [`nominal_shapes`]: floats from 0 to 1, ones and zeros. `None` where even a rank is
/// open, and where an input holds a type that rten lacks.
pub(super) fn nominal_inputs(signature: &Signature) -> Option<Vec<(String, Tensor)>> {
    let shapes = nominal_shapes(signature)?;
    let inputs = signature.inputs.iter().map(|spec| {
        let shape = &shapes[&spec.name];
        let count = shape.elements();
        let floats = || (0..count).map(scattered);
        let bits = || (0..count).map(|index| u8::from(count == 1 || scattered(index) < 0.5));
        let tensor = match spec.dtype {
            DType::F32 => Tensor::from_slice(shape.clone(), &floats().collect::<Vec<_>>()),
            DType::F16 => {
                let halves: Vec<f16> = floats().map(f16::from_f32).collect();
                Tensor::from_slice(shape.clone(), &halves)
            }
            DType::F64 => {
                Tensor::from_slice(shape.clone(), &floats().map(f64::from).collect::<Vec<_>>())
            }
            DType::I64 => {
                Tensor::from_slice(shape.clone(), &bits().map(i64::from).collect::<Vec<_>>())
            }
            DType::I32 => {
                Tensor::from_slice(shape.clone(), &bits().map(i32::from).collect::<Vec<_>>())
            }
            DType::U8 | DType::I8 | DType::Bool => {
                Tensor::new(spec.dtype, shape.clone(), bits().collect::<Vec<_>>())
            }
            _ => return None,
        };
        Some((spec.name.clone(), tensor.ok()?))
    });
    inputs.collect()
}

/// Numbers from 0 to 1 that follow no pattern (multiples of the golden ratio).
fn scattered(index: usize) -> f32 {
    (index as f32 * 0.618_034).fract()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorSpec;

    #[test]
    fn nominal_shapes_give_one_symbol_one_size() {
        let symbol = |name: &str| Dim::Symbol(name.to_owned());
        let spec = |name: &str, dims| TensorSpec {
            name: name.to_owned(),
            dtype: gw_tensor::DType::F32,
            dims: Some(dims),
            entries: None,
        };
        let inputs = vec![
            spec("a", vec![symbol("batch"), symbol("length"), Dim::Fixed(3)]),
            spec("b", vec![symbol("length"), symbol("batch"), Dim::Unknown]),
        ];
        let mut signature = Signature { inputs, outputs: Vec::new() };
        let shapes = nominal_shapes(&signature).unwrap();
        assert_eq!(shapes["a"].dims(), [1, 32, 3]);
        assert_eq!(shapes["b"].dims(), [32, 1, 32]);
        signature.inputs[0].dims = None;
        assert_eq!(nominal_shapes(&signature), None);
    }
}
