//! `TensorProto` to [`Tensor`].

use bytes::Bytes;
use gw_tensor::{DType, Shape, Tensor};

use super::external::{self, Beside};
use super::proto::TensorProto;

/// More axes than any operator has a use for.
const RANK_MAX: usize = 32;

/// The element type with ONNX's number.
pub(crate) fn dtype(number: i32) -> Result<DType, String> {
    Ok(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::Bf16,
        17 => DType::F8E4m3,
        18 => DType::F8E4m3Fnuz,
        19 => DType::F8E5m2,
        20 => DType::F8E5m2Fnuz,
        21 => DType::U4,
        22 => DType::I4,
        23 => DType::F4E2m1,
        24 => DType::F8E8m0,
        25 => DType::U2,
        26 => DType::I2,
        8 => return Err("strings are not supported".to_owned()),
        14 | 15 => return Err("complex numbers are not supported".to_owned()),
        other => return Err(format!("element type {other} is not supported")),
    })
}

/// The tensor, whose raw bytes are shared with the file.
pub(super) fn tensor(proto: TensorProto, beside: &Beside<'_>) -> Result<Tensor, String> {
    let dtype = dtype(proto.data_type)?;
    let shape = shape(&proto.dims)?;
    let elements = shape.len_checked().map_err(|error| error.to_string())?;
    let expected =
        elements.checked_mul(dtype.bits()).ok_or_else(|| format!("shape {shape} is too large"))?;
    let expected = expected.div_ceil(8);
    let bytes = if proto.data_location == 1 {
        external::read(&proto.external_data, beside, expected)?
    } else if proto.raw_data.is_empty() {
        typed_bytes(&proto, dtype)
    } else {
        proto.raw_data
    };
    let bytes = if dtype.bits() < 8 { unpacked(dtype, &bytes, elements, expected)? } else { bytes };
    Tensor::new(dtype, shape, bytes).map_err(|error| error.to_string())
}

/// Elements of less than a byte, lowest bits first, as a byte each; integers keep their sign.
fn unpacked(
    dtype: DType,
    packed: &[u8],
    elements: usize,
    expected: usize,
) -> Result<Bytes, String> {
    if packed.len() != expected {
        let given = packed.len();
        return Err(format!("{elements} elements of {dtype} take {expected} bytes, not {given}"));
    }
    let bits = dtype.bits();
    let is_signed = matches!(dtype, DType::I4 | DType::I2);
    let element = |index: usize| {
        let at = index * bits;
        let high = packed[at / 8] >> (at % 8) << (8 - bits);
        if is_signed {
            (high.cast_signed() >> (8 - bits)).cast_unsigned()
        } else {
            high >> (8 - bits)
        }
    };
    Ok((0..elements).map(element).collect::<Vec<u8>>().into())
}

fn shape(dims: &[i64]) -> Result<Shape, String> {
    if dims.len() > RANK_MAX {
        return Err(format!("{} axes are more than {RANK_MAX}", dims.len()));
    }
    let size = |&dim: &i64| {
        usize::try_from(dim).map_err(|_| format!("axis of size {dim} in shape {dims:?}"))
    };
    dims.iter().map(size).collect::<Result<Vec<_>, _>>().map(Shape::from)
}

/// The bytes of a tensor that uses one of the typed lists instead of `raw_data`.
fn typed_bytes(proto: &TensorProto, dtype: DType) -> Bytes {
    fn collect<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bytes {
        values.iter().flat_map(|&value| bytes(value)).collect::<Vec<u8>>().into()
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "onnx.proto stores narrow integers in the low bits of wide ones"
    )]
    match dtype {
        DType::F32 => collect(&proto.float_data, f32::to_le_bytes),
        DType::F64 => collect(&proto.double_data, f64::to_le_bytes),
        DType::I64 => collect(&proto.int64_data, i64::to_le_bytes),
        DType::U64 => collect(&proto.uint64_data, u64::to_le_bytes),
        DType::U32 => collect(&proto.uint64_data, |value| (value as u32).to_le_bytes()),
        DType::I32 => collect(&proto.int32_data, i32::to_le_bytes),
        DType::I16 | DType::U16 | DType::F16 | DType::Bf16 => {
            collect(&proto.int32_data, |value| (value as u16).to_le_bytes())
        }
        // Also what is packed: a value of the list holds a byte of the file's form.
        _ => collect(&proto.int32_data, |value| [value as u8]),
    }
}
