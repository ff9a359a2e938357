//! A shape with its bytes.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{DType, Element, Shape};

/// Why a tensor could not be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The bytes do not fill the shape exactly.
    #[error("a {dtype} tensor of shape {shape} has {expected} bytes, not {given}")]
    Length {
        /// The element type.
        dtype: DType,
        /// The shape.
        shape: Shape,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// The number of elements or bytes does not fit this machine.
    #[error("shape {0} is too large")]
    TooLarge(Shape),
    /// The tensor was read as another element type than it has.
    #[error("the tensor holds {given}, not {expected}")]
    DType {
        /// What the reader asked for.
        expected: DType,
        /// What the tensor holds.
        given: DType,
    },
}

/// A dense row-major tensor of little-endian elements. A clone shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: Bytes,
}

impl Tensor {
    /// A tensor over `data`, which holds the elements in row-major order.
    ///
    /// # Errors
    /// [`TensorError::Length`] where the bytes do not fill the shape, [`TensorError::TooLarge`]
    /// where the shape overflows.
    pub fn new(
        dtype: DType,
        shape: impl Into<Shape>,
        data: impl Into<Bytes>,
    ) -> Result<Self, TensorError> {
        let (shape, data) = (shape.into(), data.into());
        let expected = shape
            .len_checked()?
            .checked_mul(dtype.size())
            .ok_or_else(|| TensorError::TooLarge(shape.clone()))?;
        if data.len() != expected {
            return Err(TensorError::Length { dtype, shape, expected, given: data.len() });
        }
        Ok(Self { dtype, shape, data })
    }

    /// A tensor with a copy of `elements`.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_slice<T: Element>(
        shape: impl Into<Shape>,
        elements: &[T],
    ) -> Result<Self, TensorError> {
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        Self::new(T::DTYPE, shape, Bytes::copy_from_slice(bytes))
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How many elements there are.
    pub fn elements(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// The raw bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// The elements, borrowed where the bytes are aligned for `T` and copied where they are not.
    ///
    /// # Errors
    /// [`TensorError::DType`] where the tensor holds another type; `bool` is read as `u8`.
    pub fn as_slice<T: Element>(&self) -> Result<Cow<'_, [T]>, TensorError> {
        let bool_as_u8 = self.dtype == DType::Bool && T::DTYPE == DType::U8;
        if self.dtype != T::DTYPE && !bool_as_u8 {
            return Err(TensorError::DType { expected: T::DTYPE, given: self.dtype });
        }
        Ok(match bytemuck::try_cast_slice(&self.data) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(&self.data)),
        })
    }

    /// The elements, copied.
    ///
    /// # Errors
    /// As [`Tensor::as_slice`].
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        self.as_slice().map(Cow::into_owned)
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn reshaped(&self, shape: impl Into<Shape>) -> Result<Self, TensorError> {
        Self::new(self.dtype, shape, self.data.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_do_not_fill_the_shape_are_refused() {
        let error = Tensor::new(DType::F32, [2, 3], vec![0; 23]).unwrap_err();
        assert_eq!(error.to_string(), "a f32 tensor of shape [2, 3] has 24 bytes, not 23");
    }

    #[test]
    fn a_shape_that_overflows_is_refused() {
        let error = Tensor::new(DType::F32, [usize::MAX, 2], vec![]).unwrap_err();
        assert_eq!(error, TensorError::TooLarge(Shape::new([usize::MAX, 2])));
    }

    #[test]
    fn unaligned_bytes_read_the_same() {
        let mut padded = vec![0u8];
        padded.extend_from_slice(bytemuck::cast_slice(&[1.5f32, -2.0]));
        let unaligned = Bytes::from(padded).slice(1..);
        let tensor = Tensor::new(DType::F32, [2], unaligned).unwrap();
        assert_eq!(tensor.to_vec::<f32>().unwrap(), [1.5, -2.0]);
    }

    #[test]
    fn another_type_is_refused() {
        let tensor = Tensor::from_slice([1], &[1i64]).unwrap();
        assert_eq!(
            tensor.to_vec::<f32>().unwrap_err(),
            TensorError::DType { expected: DType::F32, given: DType::I64 }
        );
    }
}
