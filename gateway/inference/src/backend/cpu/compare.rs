//! How far one run is from another.

use gw_tensor::{DType, Tensor};
use half::f16;

/// The largest difference of any output over the range of `due`; infinite where types or shapes
/// differ.
pub(super) fn worst(given: &[(String, Tensor)], due: &[(String, Tensor)]) -> f64 {
    if given.len() != due.len() {
        return f64::INFINITY;
    }
    given.iter().zip(due).map(|((_, given), (_, due))| error(given, due)).fold(0.0, f64::max)
}

fn error(given: &Tensor, due: &Tensor) -> f64 {
    if given.dtype() != due.dtype() || given.shape() != due.shape() {
        return f64::INFINITY;
    }
    let (Some(given), Some(due)) = (numbers(given), numbers(due)) else { return 0.0 };
    let finite = || due.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(0f64, f64::min), finite().fold(0f64, f64::max));
    let range = if high > low { high - low } else { 1.0 };
    given.iter().zip(&due).fold(0.0, |worst, (given, due)| {
        // What is no number in both, or beyond all numbers in both, says nothing.
        let same = given.total_cmp(due).is_eq() || !given.is_finite() && !due.is_finite();
        let difference = if same { 0.0 } else { (given - due).abs() / range };
        if difference.is_nan() { f64::INFINITY } else { worst.max(difference) }
    })
}

/// The elements as numbers; `None` of types that rten does not have.
fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    macro_rules! of {
        ($type:ty) => {
            tensor.as_slice::<$type>().ok()?.iter().map(|&value| f64::from(value)).collect()
        };
    }
    Some(match tensor.dtype() {
        DType::F32 => of!(f32),
        DType::F16 => of!(f16),
        DType::F64 => of!(f64),
        DType::I32 => of!(i32),
        DType::I64 => tensor.as_slice::<i64>().ok()?.iter().map(|&value| value as f64).collect(),
        DType::I8 => of!(i8),
        DType::U8 | DType::Bool => of!(u8),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(values: &[f32]) -> Vec<(String, Tensor)> {
        vec![("y".to_owned(), Tensor::from_slice([values.len()], values).unwrap())]
    }

    #[test]
    fn the_worst_difference_is_relative_to_the_range() {
        let due = output(&[-1.0, 0.0, 3.0]);
        assert_eq!(worst(&due, &due), 0.0);
        assert_eq!(worst(&output(&[-1.0, 1.0, 3.0]), &due), 0.25);
        assert_eq!(worst(&output(&[-1.0, f32::NAN, 3.0]), &due), f64::INFINITY);
        assert_eq!(worst(&output(&[-1.0, 0.0]), &due), f64::INFINITY);
        assert_eq!(worst(&[], &due), f64::INFINITY);
        // A softmax over one element instead of a thousand equal ones.
        assert!(worst(&output(&[1.0; 4]), &output(&[0.001; 4])) > 100.0);
        let beyond = output(&[f32::INFINITY, f32::NAN]);
        assert_eq!(worst(&beyond, &output(&[f32::NEG_INFINITY, f32::NAN])), 0.0);
    }
}
