//! Between the element types of models and the four in which rten computes.
//!
//! rten holds `f32`, `i32`, `i8` and `u8`; `f16` and `f64` become `f32`, `i64` and `bool` become
//! `i32`, and outputs turn back into what the model declares.

use std::borrow::Cow;

use bytemuck::Pod;
use bytes::Bytes;
use gw_tensor::{DType, Element, Shape, Tensor, TensorError};
use half::f16;
use rten::{Value, ValueOrView, ValueView};
use rten_tensor::{Layout, Tensor as RtenTensor};

/// Whether inputs and outputs of this type can cross.
pub(super) fn crosses(dtype: DType) -> bool {
    use DType::{Bool, F16, F32, F64, I8, I32, I64, U8};
    matches!(dtype, F32 | F16 | F64 | I32 | I64 | I8 | U8 | Bool)
}

/// The elements of an input as rten takes them; borrowed where nothing has to change.
pub(super) enum Elements<'a> {
    F32(Cow<'a, [f32]>),
    I32(Cow<'a, [i32]>),
    I8(Cow<'a, [i8]>),
    U8(Cow<'a, [u8]>),
}

impl<'a> Elements<'a> {
    /// The elements of a tensor whose type [`crosses`] and whose integers are known to fit.
    pub(super) fn of(tensor: &'a Tensor) -> Result<Self, String> {
        let no = |error: TensorError| error.to_string();
        Ok(match tensor.dtype() {
            DType::F32 => Self::F32(tensor.as_slice().map_err(no)?),
            DType::F16 => Self::F32(converted(tensor, f16::to_f32).map_err(no)?),
            #[expect(clippy::cast_possible_truncation, reason = "rten computes f64 as f32")]
            DType::F64 => Self::F32(converted(tensor, |x: f64| x as f32).map_err(no)?),
            DType::I32 => Self::I32(tensor.as_slice().map_err(no)?),
            DType::I64 => Self::I32(narrowed(tensor)?),
            DType::Bool => Self::I32(converted(tensor, |x: u8| i32::from(x != 0)).map_err(no)?),
            DType::I8 => Self::I8(tensor.as_slice().map_err(no)?),
            DType::U8 => Self::U8(tensor.as_slice().map_err(no)?),
            other => return Err(format!("{other} has no counterpart on the cpu device")),
        })
    }

    /// A view of them under `shape`.
    pub(super) fn view(&'a self, shape: &Shape) -> Result<ValueOrView<'a>, String> {
        let dims = shape.dims();
        match self {
            Self::F32(data) => ValueView::from_shape(dims, data.as_ref()).map_err(text),
            Self::I32(data) => ValueView::from_shape(dims, data.as_ref()).map_err(text),
            Self::I8(data) => ValueView::from_shape(dims, data.as_ref()).map_err(text),
            Self::U8(data) => ValueView::from_shape(dims, data.as_ref()).map_err(text),
        }
        .map(ValueOrView::View)
    }
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

fn converted<T: Element, U: Clone>(
    tensor: &Tensor,
    convert: impl Fn(T) -> U,
) -> Result<Cow<'_, [U]>, TensorError> {
    Ok(Cow::Owned(tensor.as_slice::<T>()?.iter().map(|&x| convert(x)).collect()))
}

fn narrowed(tensor: &Tensor) -> Result<Cow<'_, [i32]>, String> {
    let wide = tensor.as_slice::<i64>().map_err(text)?;
    let narrow: Result<Vec<i32>, _> = wide.iter().map(|&x| i32::try_from(x)).collect();
    narrow.map(Cow::Owned).map_err(text)
}

/// An output of rten as the model declares it.
pub(super) fn output(value: Value, declared: DType) -> Result<Tensor, String> {
    match (value, declared) {
        (Value::FloatTensor(t), DType::F32) => tensor(t, declared, |x: f32| x),
        (Value::FloatTensor(t), DType::F16) => tensor(t, declared, f16::from_f32),
        (Value::FloatTensor(t), DType::F64) => tensor(t, declared, f64::from),
        (Value::Int32Tensor(t), DType::I32) => tensor(t, declared, |x: i32| x),
        (Value::Int32Tensor(t), DType::I64) => tensor(t, declared, i64::from),
        (Value::Int32Tensor(t), DType::Bool) => tensor(t, declared, |x: i32| u8::from(x != 0)),
        (Value::Int8Tensor(t), DType::I8) => tensor(t, declared, |x: i8| x),
        (Value::UInt8Tensor(t), DType::U8 | DType::Bool) => tensor(t, declared, |x: u8| x),
        (value, _) => Err(format!("the model declares {declared}, rten gives {}", value.dtype())),
    }
}

fn tensor<T: Clone + 'static, U: Pod + Send + Sync>(
    values: RtenTensor<T>,
    declared: DType,
    convert: impl Fn(T) -> U,
) -> Result<Tensor, String> {
    let shape = values.shape().to_vec();
    // Where `T` is `U` the standard library collects in place, without a copy.
    let data: Vec<U> = values.into_data().into_iter().map(convert).collect();
    Tensor::new(declared, shape, Bytes::from_owner(Owned(data))).map_err(text)
}

/// Elements that [`Bytes`] can own as they are.
struct Owned<T>(Vec<T>);

impl<T: Pod> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}
