//! What a model is run on: what the user gave, and repeatable noise for the rest.

use gw_inference::{Signature, TensorSpec};
use gw_tensor::{DType, Shape, Tensor};
use half::{bf16, f16};

use crate::models::values::ValueArg;
use crate::models::{ShapeArg, Shapes};

/// The inputs of one run, and the shapes that they have.
pub(super) struct Inputs {
    pub(super) shapes: Shapes,
    pub(super) tensors: Vec<(String, Tensor)>,
}

impl Inputs {
    /// Inputs of `signature`, with the shapes and values that the user gave.
    ///
    /// # Errors
    /// Where they do not fit, or no machine holds them.
    pub(super) fn new(
        signature: &Signature,
        shapes: &[ShapeArg],
        values: &[ValueArg],
    ) -> anyhow::Result<Self> {
        let shapes = ValueArg::shapes(values, signature, shapes)?;
        let shapes = Shapes::resolve(signature, &shapes)?;
        let mut given = ValueArg::tensors(values, signature, &shapes)?;
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut tensors = Vec::new();
        for spec in &signature.inputs {
            let tensor = match given.remove(&spec.name) {
                Some(given) => given,
                None => random.tensor(spec, &shapes.shapes[&spec.name])?,
            };
            tensors.push((spec.name.clone(), tensor));
        }
        Ok(Self { shapes, tensors })
    }
}

/// Xorshift: the same inputs in every run, and no need for more.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn tensor(&mut self, spec: &TensorSpec, shape: &Shape) -> anyhow::Result<Tensor> {
        let elements = shape.len_checked()?;
        let mask = spec.name.to_lowercase().contains("mask");
        let size = elements.checked_mul(spec.dtype.size());
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size.unwrap_or(usize::MAX))?;
        for _ in 0..elements {
            let unit = if mask { 1.0 } else { (self.next() >> 40) as f32 / (1u64 << 24) as f32 };
            let bit = u8::from(mask || self.next() >> 63 == 1);
            match spec.dtype {
                DType::F32 => bytes.extend(unit.to_le_bytes()),
                DType::F64 => bytes.extend(f64::from(unit).to_le_bytes()),
                DType::F16 => bytes.extend(f16::from_f32(unit).to_le_bytes()),
                DType::Bf16 => bytes.extend(bf16::from_f32(unit).to_le_bytes()),
                small if small.is_small_float() => {
                    bytes.push(gw_tensor::small::encode(small, unit));
                }
                integer => {
                    bytes.push(bit);
                    bytes.resize(bytes.len() + integer.size() - 1, 0);
                }
            }
        }
        Ok(Tensor::new(spec.dtype, shape.clone(), bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_inputs_are_valid() {
        let spec = |name: &str, dtype| TensorSpec {
            name: name.to_owned(),
            dtype,
            dims: None,
            entries: None,
        };
        let mut random = Random(1);
        let shape = Shape::new([4, 64]);
        let ids = random.tensor(&spec("ids", DType::I64), &shape).unwrap();
        let ids = ids.to_vec::<i64>().unwrap();
        assert!(ids.iter().all(|id| (0..=1).contains(id)));
        assert!(ids.contains(&0) && ids.contains(&1));
        let mask = random.tensor(&spec("attention_mask", DType::I64), &shape).unwrap();
        assert!(mask.to_vec::<i64>().unwrap().iter().all(|&bit| bit == 1));
        let image = random.tensor(&spec("image", DType::F32), &shape).unwrap();
        let image = image.to_vec::<f32>().unwrap();
        assert!(image.iter().all(|x| (0.0..1.0).contains(x)) && image[0] != image[1]);
    }

    #[test]
    fn a_shape_that_no_machine_holds_is_an_error() {
        let spec = TensorSpec { name: "x".into(), dtype: DType::F32, dims: None, entries: None };
        assert!(Random(1).tensor(&spec, &Shape::new([usize::MAX / 8])).is_err());
    }
}
