//! Whether an answer holds what is not a number.

use gw_engine::Value;
use gw_tensor::{DType, Element, Tensor};
use half::{bf16, f16};

/// Elements between two looks at what was found: enough for the compiler to compare many at once.
const CHUNK: usize = 1024;

/// Whether an output in host memory holds one. Infinity is a number here; integers and the floats
/// of eight bits and fewer are not looked at, nor is what stays on a device.
pub(super) fn is_nan(value: &Value) -> bool {
    let Some(tensor) = value.host() else { return false };
    match tensor.dtype() {
        DType::F32 => any(tensor, f32::is_nan),
        DType::F64 => any(tensor, f64::is_nan),
        DType::F16 => any(tensor, f16::is_nan),
        DType::Bf16 => any(tensor, bf16::is_nan),
        _ => false,
    }
}

fn any<T: Element>(tensor: &Tensor, is_nan: impl Fn(T) -> bool) -> bool {
    let Ok(values) = tensor.as_slice::<T>() else { return false };
    let one_of = |chunk: &[T]| chunk.iter().fold(false, |found, &value| found | is_nan(value));
    values.chunks(CHUNK).any(one_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_element_that_is_no_number_is_found_wherever_it_is() {
        for len in [1, 7, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
            let mut values = vec![f32::INFINITY; len];
            values[len / 2] = f32::NEG_INFINITY;
            let value = |values: &[f32]| Value::from(Tensor::from_slice([len], values).unwrap());
            assert!(!is_nan(&value(&values)));
            for at in [0, len / 2, len - 1] {
                let mut values = values.clone();
                values[at] = -f32::NAN;
                assert!(is_nan(&value(&values)), "{at} of {len}");
            }
        }
    }

    #[test]
    fn every_width_is_looked_at_and_integers_are_not() {
        fn of<T: Element>(values: &[T]) -> bool {
            is_nan(&Tensor::from_slice([values.len()], values).unwrap().into())
        }
        assert!(of(&[1.0, f64::NAN]) && !of(&[f64::INFINITY, f64::MIN]));
        assert!(of(&[f16::ONE, f16::NAN]) && !of(&[f16::INFINITY, f16::NEG_INFINITY, f16::MAX]));
        assert!(of(&[bf16::ONE, bf16::NAN]) && !of(&[bf16::INFINITY, bf16::NEG_INFINITY]));
        assert!(!of(&[f32::NAN.to_bits()]) && !of(&[0f32; 0]));
    }
}
