//! `TensorProto` to [`Tensor`].

use std::path::Path;

use bytes::Bytes;
use gw_tensor::{DType, Shape, Tensor};

use super::external;
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
        8 => return Err("strings are not supported".to_owned()),
        14 | 15 => return Err("complex numbers are not supported".to_owned()),
        other => return Err(format!("element type {other} is not supported")),
    })
}

/// The tensor, whose raw bytes are shared with the file.
pub(super) fn tensor(proto: TensorProto, folder: Option<&Path>) -> Result<Tensor, String> {
    let dtype = dtype(proto.data_type)?;
    let shape = shape(&proto.dims)?;
    let elements = shape.len_checked().map_err(|error| error.to_string())?;
    let expected =
        elements.checked_mul(dtype.size()).ok_or_else(|| format!("shape {shape} is too large"))?;
    let bytes = if proto.data_location == 1 {
        external::read(&proto.external_data, folder, expected)?
    } else if proto.raw_data.is_empty() {
        typed_bytes(&proto, dtype)
    } else {
        proto.raw_data
    };
    Tensor::new(dtype, shape, bytes).map_err(|error| error.to_string())
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
        DType::I8 | DType::U8 | DType::Bool => collect(&proto.int32_data, |value| [value as u8]),
    }
}
