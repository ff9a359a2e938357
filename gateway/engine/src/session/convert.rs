//! Tensors to device form and back.
//!
//! Every element takes four bytes on a device: floats become `f32`, integers `i32`, booleans a
//! `u32` of 0 or 1.

use bytes::Bytes;
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Tensor, TensorError, small};
use half::{bf16, f16};
use wgpu::WriteOnly;

use super::error::RunError;

/// Bytes of `elements` on a device.
pub(super) const fn device_bytes(elements: usize) -> u64 {
    elements as u64 * 4
}

/// Whether a tensor of this type that lies on a device as `scalar` has the bits there that it would
/// have if it were read and written again: it is what an input of its type takes. What is computed
/// in a narrower type is rounded, or wraps, only when it is read.
pub(super) const fn is_device_form(dtype: DType, scalar: Scalar) -> bool {
    match dtype {
        DType::F32 | DType::F64 => matches!(scalar, Scalar::F32),
        DType::I32 | DType::I64 | DType::U32 | DType::U64 => matches!(scalar, Scalar::I32),
        DType::Bool => matches!(scalar, Scalar::U32),
        _ => false,
    }
}

/// Checks that every integer of `tensor` fits a device.
pub(super) fn check_range(input: &str, tensor: &Tensor) -> Result<(), RunError> {
    let outside = match tensor.dtype() {
        DType::I64 => first(tensor, |b| i64::from_le_bytes(b).into()),
        DType::U64 => first(tensor, |b| u64::from_le_bytes(b).into()),
        DType::U32 => first(tensor, |b| u32::from_le_bytes(b).into()),
        _ => None,
    };
    let Some((index, value)) = outside else { return Ok(()) };
    Err(RunError::OutOfRange { input: input.to_owned(), value, index })
}

/// The first element that is no `i32`.
fn first<const N: usize>(tensor: &Tensor, value: fn([u8; N]) -> i128) -> Option<(usize, i128)> {
    let values = tensor.bytes().as_chunks::<N>().0.iter().map(|&bytes| value(bytes));
    values.enumerate().find(|(_, value)| i32::try_from(*value).is_err())
}

/// Writes `tensor` to mapped memory of exactly its size on the device. Integers have passed
/// [`check_range`].
pub(super) fn encode(tensor: &Tensor, mut out: WriteOnly<'_, [u8]>) {
    let data = tensor.bytes();
    match tensor.dtype() {
        DType::F32 | DType::I32 | DType::U32 => out.copy_from_slice(data),
        DType::F16 => widen(data, out, |b| f16::from_le_bytes(b).to_f32().to_le_bytes()),
        DType::Bf16 => widen(data, out, |b| bf16::from_le_bytes(b).to_f32().to_le_bytes()),
        DType::F64 => widen(data, out, |b| narrow_f64(f64::from_le_bytes(b)).to_le_bytes()),
        // The lower half of an integer that fits 32 bits is that integer.
        DType::I64 | DType::U64 => {
            widen(data, out, |[a, b, c, d, ..]: [u8; 8]| [a, b, c, d]);
        }
        DType::I16 => widen(data, out, |b| i32::from(i16::from_le_bytes(b)).to_le_bytes()),
        DType::U16 => widen(data, out, |b| i32::from(u16::from_le_bytes(b)).to_le_bytes()),
        DType::I8 | DType::I4 | DType::I2 => {
            widen(data, out, |b| i32::from(i8::from_le_bytes(b)).to_le_bytes());
        }
        DType::U8 | DType::U4 | DType::U2 => {
            widen(data, out, |[byte]: [u8; 1]| i32::from(byte).to_le_bytes());
        }
        DType::Bool => widen(data, out, |[byte]: [u8; 1]| u32::from(byte != 0).to_le_bytes()),
        DType::F8E4m3
        | DType::F8E4m3Fnuz
        | DType::F8E5m2
        | DType::F8E5m2Fnuz
        | DType::F8E8m0
        | DType::F4E2m1 => {
            let dtype = tensor.dtype();
            widen(data, out, |[byte]| small::decode(dtype, byte).to_le_bytes());
        }
    }
}

fn widen<const N: usize>(data: &[u8], out: WriteOnly<'_, [u8]>, f: impl Fn([u8; N]) -> [u8; 4]) {
    let words = out.into_chunks::<4>().0;
    words.write_iter(data.as_chunks::<N>().0.iter().map(|&bytes| f(bytes)));
}

/// The tensor of type `dtype` and shape `shape` whose elements lie in `data` as `scalar`.
pub(super) fn decode(
    dtype: DType,
    scalar: Scalar,
    shape: &gw_tensor::Shape,
    data: &[u8],
) -> Result<Tensor, TensorError> {
    let words = data.as_chunks::<4>().0;
    let bytes = match (scalar, dtype) {
        (Scalar::F32, DType::F32) | (Scalar::I32, DType::I32) | (Scalar::U32, DType::U32) => {
            Bytes::copy_from_slice(data)
        }
        (Scalar::F32, _) => floats(words, dtype),
        (Scalar::I32, _) => integers(words, dtype, |word| i32::from_le_bytes(word).into()),
        (Scalar::U32, _) => integers(words, dtype, |word| u32::from_le_bytes(word).into()),
    };
    Tensor::new(dtype, shape.clone(), bytes)
}

fn floats(words: &[[u8; 4]], dtype: DType) -> Bytes {
    match dtype {
        DType::F16 => narrow(words, |w| f16::from_f32(f32::from_le_bytes(w)).to_le_bytes()),
        DType::Bf16 => narrow(words, |w| bf16::from_f32(f32::from_le_bytes(w)).to_le_bytes()),
        DType::F64 => narrow(words, |w| f64::from(f32::from_le_bytes(w)).to_le_bytes()),
        DType::F32 => Bytes::copy_from_slice(words.as_flattened()),
        DType::Bool => narrow(words, |w| [u8::from(f32::from_le_bytes(w) != 0.0)]),
        small if small.is_small_float() => {
            collect(words, |w| [small::encode(small, f32::from_le_bytes(*w))])
        }
        // An integer that was computed as a float: ONNX's cast, which saturates here.
        _ => integers(words, dtype, |w| float_to_int(f32::from_le_bytes(w))),
    }
}

fn integers(words: &[[u8; 4]], dtype: DType, value: fn([u8; 4]) -> i64) -> Bytes {
    let value = move |word: &[u8; 4]| value(*word);
    match dtype {
        DType::I64 | DType::U64 => collect(words, |w| value(w).to_le_bytes()),
        DType::I32 | DType::U32 => collect(words, |w| low::<4>(value(w))),
        DType::I16 | DType::U16 => collect(words, |w| low::<2>(value(w))),
        DType::I8 | DType::U8 => collect(words, |w| low::<1>(value(w))),
        DType::I4 => collect(words, |w| low::<1>(value(w) << 60 >> 60)),
        DType::I2 => collect(words, |w| low::<1>(value(w) << 62 >> 62)),
        DType::U4 => collect(words, |w| low::<1>(value(w) & 0xf)),
        DType::U2 => collect(words, |w| low::<1>(value(w) & 0x3)),
        DType::Bool => collect(words, |w| [u8::from(value(w) != 0)]),
        DType::F32 => collect(words, |w| (value(w) as f32).to_le_bytes()),
        DType::F64 => collect(words, |w| (value(w) as f64).to_le_bytes()),
        DType::F16 => collect(words, |w| f16::from_f32(value(w) as f32).to_le_bytes()),
        DType::Bf16 => collect(words, |w| bf16::from_f32(value(w) as f32).to_le_bytes()),
        DType::F8E4m3
        | DType::F8E4m3Fnuz
        | DType::F8E5m2
        | DType::F8E5m2Fnuz
        | DType::F8E8m0
        | DType::F4E2m1 => collect(words, |w| [small::encode(dtype, value(w) as f32)]),
    }
}

/// The lowest `N` bytes: integer types narrower than a device's wrap, as ONNX's casts do.
fn low<const N: usize>(value: i64) -> [u8; N] {
    let bytes = value.to_le_bytes();
    std::array::from_fn(|i| bytes[i])
}

fn narrow<const N: usize>(words: &[[u8; 4]], f: fn([u8; 4]) -> [u8; N]) -> Bytes {
    collect(words, |word| f(*word))
}

fn collect<const N: usize>(words: &[[u8; 4]], f: impl Fn(&[u8; 4]) -> [u8; N]) -> Bytes {
    let mut bytes = Vec::with_capacity(words.len() * N);
    for word in words {
        bytes.extend_from_slice(&f(word));
    }
    bytes.into()
}

#[expect(clippy::cast_possible_truncation, reason = "devices compute in single precision")]
const fn narrow_f64(value: f64) -> f32 {
    value as f32
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, as is wanted")]
const fn float_to_int(value: f32) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(tensor: &Tensor) -> Vec<u8> {
        let mut out = vec![0xAA; 4 * tensor.elements()];
        encode(tensor, WriteOnly::from_mut(out.as_mut_slice()));
        out
    }

    const fn scalar(dtype: DType) -> Scalar {
        match dtype {
            DType::Bool => Scalar::U32,
            _ if dtype.is_float() => Scalar::F32,
            _ => Scalar::I32,
        }
    }

    #[test]
    fn each_type_has_its_device_form() {
        let cases: [(DType, Vec<u8>, [u8; 4]); 17] = [
            (DType::F32, 1.5f32.to_le_bytes().into(), 1.5f32.to_le_bytes()),
            (DType::F16, f16::from_f32(-2.0).to_le_bytes().into(), (-2.0f32).to_le_bytes()),
            (DType::Bf16, bf16::from_f32(3.0).to_le_bytes().into(), 3.0f32.to_le_bytes()),
            (DType::F64, 0.1f64.to_le_bytes().into(), 0.1f32.to_le_bytes()),
            (DType::I8, (-7i8).to_le_bytes().into(), (-7i32).to_le_bytes()),
            (DType::I16, (-300i16).to_le_bytes().into(), (-300i32).to_le_bytes()),
            (DType::I32, i32::MIN.to_le_bytes().into(), i32::MIN.to_le_bytes()),
            (DType::I64, (-5i64).to_le_bytes().into(), (-5i32).to_le_bytes()),
            (DType::U8, vec![200], 200i32.to_le_bytes()),
            (DType::U16, 60_000u16.to_le_bytes().into(), 60_000i32.to_le_bytes()),
            (DType::U32, 7u32.to_le_bytes().into(), 7i32.to_le_bytes()),
            (DType::U64, 9u64.to_le_bytes().into(), 9i32.to_le_bytes()),
            (DType::Bool, vec![1], 1u32.to_le_bytes()),
            (DType::I4, vec![0xf8], (-8i32).to_le_bytes()),
            (DType::U2, vec![3], 3i32.to_le_bytes()),
            (DType::F8E5m2, vec![0xbc], (-1.0f32).to_le_bytes()),
            (DType::F4E2m1, vec![7], 6.0f32.to_le_bytes()),
        ];
        for (dtype, bytes, device) in cases {
            let tensor = Tensor::new(dtype, [1], bytes).unwrap();
            assert_eq!(encoded(&tensor), device, "{dtype}");
        }
    }

    #[test]
    fn an_integer_beyond_32_bits_is_named() {
        let cases = [
            (Tensor::from_slice([3], &[1i64, 2, 1 << 40]), "value 1099511627776 at element 2"),
            (Tensor::from_slice([1], &[i64::MIN]), "value -9223372036854775808 at element 0"),
            (Tensor::from_slice([1], &[u64::MAX]), "value 18446744073709551615 at element 0"),
            (Tensor::from_slice([1], &[1u32 << 31]), "value 2147483648 at element 0"),
        ];
        for (tensor, expected) in cases {
            let error = check_range("ids", &tensor.unwrap()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.is_caller_fault());
        }
        let edge = Tensor::from_slice([2], &[i64::from(i32::MIN), i64::from(i32::MAX)]).unwrap();
        assert!(check_range("ids", &edge).is_ok());
    }

    #[test]
    fn results_of_another_kind_are_cast() {
        let float = 2.75f32.to_le_bytes();
        let shape = gw_tensor::Shape::new([1]);
        let int = decode(DType::I64, Scalar::F32, &shape, &float).unwrap();
        assert_eq!(int.to_vec::<i64>().unwrap(), [2]);
        let flag = decode(DType::Bool, Scalar::I32, &shape, &5i32.to_le_bytes()).unwrap();
        assert_eq!(flag.to_vec::<u8>().unwrap(), [1]);
        let float = decode(DType::F32, Scalar::U32, &shape, &u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(float.to_vec::<f32>().unwrap(), [u32::MAX as f32]);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(64)
        })]

        #[test]
        fn what_goes_down_comes_back(values in prop::collection::vec(any::<i8>(), 0..40)) {
            let len = values.len();
            let as_i64: Vec<i64> = values.iter().map(|&v| v.into()).collect();
            let as_f16: Vec<f16> = values.iter().map(|&v| f16::from(v)).collect();
            let as_u8: Vec<u8> = values.iter().map(|v| v.unsigned_abs()).collect();
            let tensors = [
                Tensor::from_slice([len], &values),
                Tensor::from_slice([len], &as_i64),
                Tensor::from_slice([len], &as_f16),
                Tensor::from_slice([len], &as_u8),
            ];
            for tensor in tensors {
                let tensor = tensor.unwrap();
                let dtype = tensor.dtype();
                let back = decode(dtype, scalar(dtype), tensor.shape(), &encoded(&tensor));
                prop_assert_eq!(back.unwrap(), tensor);
            }
        }
    }
}
