//! When an output is right: the rule of ONNX's own backend tests.

use gw_tensor::{DType, Tensor, small};

/// As in `onnx.backend.test.case`: differences up to this, plus [`RELATIVE`] of what is due. It
/// counts in units of the largest that is due: what is due was computed in single precision too,
/// and sums that cancel keep the rounding of their terms.
const ABSOLUTE: f64 = 1e-7;
/// See [`ABSOLUTE`].
const RELATIVE: f64 = 1e-3;

/// What is wrong with `given`, if anything: names are the model's, so only values are compared.
pub fn outputs(given: &[(String, Tensor)], due: &[Tensor]) -> Option<String> {
    if given.len() < due.len() {
        return Some(format!("{} outputs, not {}", given.len(), due.len()));
    }
    given.iter().zip(due).find_map(|((name, given), due)| {
        tensor(given, due).map(|wrong| format!("output `{name}`: {wrong}"))
    })
}

/// What is wrong with the types and shapes of what is drawn at random, whose values ONNX leaves
/// open: its data are for information.
pub fn drawn(given: &[(String, Tensor)], due: &[Tensor]) -> Option<String> {
    given.iter().zip(due).find_map(|((name, given), due)| {
        let same = given.dtype() == due.dtype() && given.shape() == due.shape();
        (!same).then(|| format!("output `{name}`: {} {}", given.dtype(), given.shape()))
    })
}

/// What is wrong with `given`, if anything.
pub fn tensor(given: &Tensor, due: &Tensor) -> Option<String> {
    if given.dtype() != due.dtype() {
        return Some(format!("{}, not {}", given.dtype(), due.dtype()));
    }
    if given.shape() != due.shape() {
        return Some(format!("shape {}, not {}", given.shape(), due.shape()));
    }
    let (given, due) = (numbers(given), numbers(due));
    let finite = due.iter().map(|due| due.abs()).filter(|due| due.is_finite());
    let unit = finite.fold(1.0, f64::max);
    let wrong = given.iter().zip(&due).position(|(given, due)| !is_close(*given, *due, unit))?;
    Some(format!("element {wrong} is {}, not {}", given[wrong], due[wrong]))
}

fn is_close(given: f64, due: f64, unit: f64) -> bool {
    if given.is_nan() || due.is_nan() {
        return given.is_nan() && due.is_nan();
    }
    given.total_cmp(&due).is_eq() || (given - due).abs() <= ABSOLUTE * unit + RELATIVE * due.abs()
}

/// The elements; 64-bit integers beyond 2^53 are compared as their nearest `f64`.
pub fn numbers(tensor: &Tensor) -> Vec<f64> {
    fn read<const N: usize>(tensor: &Tensor, value: fn([u8; N]) -> f64) -> Vec<f64> {
        tensor.bytes().as_chunks::<N>().0.iter().map(|&bytes| value(bytes)).collect()
    }
    match tensor.dtype() {
        DType::F32 => read(tensor, |b| f32::from_le_bytes(b).into()),
        DType::F64 => read(tensor, f64::from_le_bytes),
        DType::F16 => read(tensor, |b| half::f16::from_le_bytes(b).to_f64()),
        DType::Bf16 => read(tensor, |b| half::bf16::from_le_bytes(b).to_f64()),
        DType::I8 | DType::I4 | DType::I2 => read(tensor, |b| i8::from_le_bytes(b).into()),
        DType::I16 => read(tensor, |b| i16::from_le_bytes(b).into()),
        DType::I32 => read(tensor, |b| i32::from_le_bytes(b).into()),
        DType::I64 => read(tensor, |b| i64::from_le_bytes(b) as f64),
        DType::U8 | DType::U4 | DType::U2 => read(tensor, |[byte]: [u8; 1]| byte.into()),
        DType::U16 => read(tensor, |b| u16::from_le_bytes(b).into()),
        DType::U32 => read(tensor, |b| u32::from_le_bytes(b).into()),
        DType::U64 => read(tensor, |b| u64::from_le_bytes(b) as f64),
        DType::Bool => read(tensor, |[byte]: [u8; 1]| f64::from(u8::from(byte != 0))),
        DType::F8E4m3
        | DType::F8E4m3Fnuz
        | DType::F8E5m2
        | DType::F8E5m2Fnuz
        | DType::F8E8m0
        | DType::F4E2m1 => {
            let value = |&byte: &u8| small::decode(tensor.dtype(), byte).into();
            tensor.bytes().iter().map(value).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_type_shape_or_value_is_told() {
        let due = Tensor::from_slice([2], &[1f32, 2.0]).unwrap();
        let near = Tensor::from_slice([2], &[1.0005f32, 2.0]).unwrap();
        assert_eq!(tensor(&near, &due), None);
        let far = Tensor::from_slice([2], &[1f32, f32::NAN]).unwrap();
        assert!(tensor(&far, &due).unwrap().contains("element 1 is NaN"));
        let flat = Tensor::from_slice([1, 2], &[1f32, 2.0]).unwrap();
        assert!(tensor(&flat, &due).unwrap().contains("shape"));
        let ints = Tensor::from_slice([2], &[1i32, 2]).unwrap();
        assert!(tensor(&ints, &due).unwrap().contains("not f32"));
    }
}
