//! The tensors of a guest: bytes with a claim, checked where they enter a model.

use bytes::Bytes;
use gw_tensor::{DType, Tensor, TensorError};
use wasmtime::component::Resource;

use super::bindings::wasi::nn::errors::ErrorCode;
use super::bindings::wasi::nn::tensor::{Host, HostTensor, TensorType};
use super::{NnError, NnView};

/// More dimensions than any model has; it bounds what is copied and printed.
const RANK_MAX: usize = 16;

/// A tensor as a guest made it, or as a model answered it.
///
/// The constructor of `wasi:nn/tensor` cannot fail, so nothing is known of this one until
/// [`GuestTensor::check`].
pub struct GuestTensor {
    dimensions: Vec<u32>,
    ty: TensorType,
    /// Nothing where the tensor would have exceeded what one request may hold.
    data: Option<Bytes>,
}

impl GuestTensor {
    /// A tensor of which nothing is known but what a guest says.
    pub(crate) fn claimed(dimensions: Vec<u32>, ty: TensorType, data: Bytes) -> Self {
        Self { dimensions, ty, data: Some(data) }
    }

    /// The dimensions, the type and the bytes.
    pub(crate) fn into_parts(self) -> (Vec<u32>, TensorType, Bytes) {
        (self.dimensions, self.ty, self.data.unwrap_or_default())
    }

    /// The tensor that the guest claims it is.
    pub(crate) fn check(self) -> Result<Tensor, NnError> {
        let invalid = |reason: String| NnError::new(ErrorCode::InvalidArgument, reason);
        let Some(data) = self.data else {
            return Err(too_large());
        };
        if self.dimensions.len() > RANK_MAX {
            let rank = self.dimensions.len();
            return Err(invalid(format!("{rank} dimensions are more than the {RANK_MAX} allowed")));
        }
        let dims: Vec<usize> = self.dimensions.iter().map(|&size| size as usize).collect();
        Tensor::new(dtype(self.ty), dims, data)
            .map_err(|error: TensorError| invalid(error.to_string()))
    }

    /// A model's answer, as the types of wasi-nn can say it: `bool` is read as U8, and integers
    /// that wasi-nn lacks are widened.
    pub(crate) fn output(tensor: &Tensor) -> Result<Self, NnError> {
        let unsupported = |reason: String| NnError::new(ErrorCode::UnsupportedOperation, reason);
        let (ty, data) = match tensor.dtype() {
            DType::F16 => (TensorType::Fp16, tensor.bytes().clone()),
            DType::F32 => (TensorType::Fp32, tensor.bytes().clone()),
            DType::F64 => (TensorType::Fp64, tensor.bytes().clone()),
            DType::Bf16 => (TensorType::Bf16, tensor.bytes().clone()),
            DType::U8 | DType::Bool => (TensorType::U8, tensor.bytes().clone()),
            DType::I32 => (TensorType::I32, tensor.bytes().clone()),
            DType::I64 => (TensorType::I64, tensor.bytes().clone()),
            DType::I8 => {
                (TensorType::I32, widened::<i8, 4>(tensor, |x| i32::from(x).to_le_bytes()))
            }
            DType::I16 => {
                (TensorType::I32, widened::<i16, 4>(tensor, |x| i32::from(x).to_le_bytes()))
            }
            DType::U16 => {
                (TensorType::I32, widened::<u16, 4>(tensor, |x| i32::from(x).to_le_bytes()))
            }
            DType::U32 => {
                (TensorType::I64, widened::<u32, 8>(tensor, |x| i64::from(x).to_le_bytes()))
            }
            other => return Err(unsupported(format!("wasi-nn has no type for {other}"))),
        };
        let sizes = tensor.shape().iter().map(|&size| u32::try_from(size));
        let dimensions = sizes
            .collect::<Result<Vec<u32>, _>>()
            .map_err(|_| unsupported(format!("the shape {} exceeds 32 bits", tensor.shape())))?;
        Ok(Self { dimensions, ty, data: Some(data) })
    }

    /// What it takes of the request's allowance: the dimensions are the guest's too.
    pub(super) fn bytes(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len() + self.dimensions.len() * size_of::<u32>())
    }
}

fn widened<T: gw_tensor::Element, const N: usize>(
    tensor: &Tensor,
    widen: impl Fn(T) -> [u8; N],
) -> Bytes {
    let elements = tensor.as_slice::<T>().expect("the caller matched the element type");
    elements.iter().flat_map(|&element| widen(element)).collect()
}

fn dtype(ty: TensorType) -> DType {
    match ty {
        TensorType::Fp16 => DType::F16,
        TensorType::Fp32 => DType::F32,
        TensorType::Fp64 => DType::F64,
        TensorType::Bf16 => DType::Bf16,
        TensorType::U8 => DType::U8,
        TensorType::I32 => DType::I32,
        TensorType::I64 => DType::I64,
    }
}

pub(super) fn too_large() -> NnError {
    NnError::new(ErrorCode::TooLarge, "the tensors of this request exceed what one may hold")
}

impl NnView<'_> {
    /// Gives a tensor to the guest. One that exceeds the allowance is emptied: it takes no
    /// memory, and `compute` says why it cannot be used.
    pub(super) fn push_tensor(
        &mut self,
        mut tensor: GuestTensor,
    ) -> wasmtime::Result<Resource<GuestTensor>> {
        match self.nn.bytes_left.checked_sub(tensor.bytes()) {
            Some(left) => self.nn.bytes_left = left,
            None => tensor = GuestTensor { dimensions: Vec::new(), ty: tensor.ty, data: None },
        }
        Ok(self.table.push(tensor)?)
    }

    pub(super) fn remove_tensor(
        &mut self,
        tensor: Resource<GuestTensor>,
    ) -> wasmtime::Result<GuestTensor> {
        let tensor = self.table.delete(tensor)?;
        self.nn.bytes_left += tensor.bytes();
        Ok(tensor)
    }
}

impl Host for NnView<'_> {}

impl HostTensor for NnView<'_> {
    fn new(
        &mut self,
        dimensions: Vec<u32>,
        ty: TensorType,
        data: Vec<u8>,
    ) -> wasmtime::Result<Resource<GuestTensor>> {
        self.push_tensor(GuestTensor { dimensions, ty, data: Some(data.into()) })
    }

    fn dimensions(&mut self, this: Resource<GuestTensor>) -> wasmtime::Result<Vec<u32>> {
        Ok(self.table.get(&this)?.dimensions.clone())
    }

    fn ty(&mut self, this: Resource<GuestTensor>) -> wasmtime::Result<TensorType> {
        Ok(self.table.get(&this)?.ty)
    }

    async fn data(&mut self, this: Resource<GuestTensor>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&this)?.data.as_deref().map(<[u8]>::to_vec).unwrap_or_default())
    }

    fn drop(&mut self, this: Resource<GuestTensor>) -> wasmtime::Result<()> {
        self.remove_tensor(this)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dimensions: &[u32], bytes: usize) -> GuestTensor {
        let data = Some(Bytes::from(vec![0; bytes]));
        GuestTensor { dimensions: dimensions.to_vec(), ty: TensorType::Fp32, data }
    }

    #[test]
    fn a_claim_is_checked_against_the_bytes() {
        struct Case(&'static [u32], usize, Option<&'static str>);
        let cases = [
            Case(&[2, 3], 24, None),
            Case(&[], 4, None),
            Case(&[0], 0, None),
            Case(&[2, 3], 20, Some("a f32 tensor of shape [2, 3] has 24 bytes, not 20")),
            Case(
                &[u32::MAX; 3],
                4,
                Some("shape [4294967295, 4294967295, 4294967295] is too large"),
            ),
            Case(&[1; 17], 4, Some("17 dimensions are more than the 16 allowed")),
        ];
        for Case(dimensions, bytes, error) in cases {
            let checked = tensor(dimensions, bytes).check();
            assert_eq!(checked.err().map(|error| error.data).as_deref(), error, "{dimensions:?}");
        }
    }

    #[test]
    fn answers_keep_their_values_in_the_types_of_wasi_nn() {
        let narrow = Tensor::from_slice([2], &[-1i8, 5]).unwrap();
        let given = GuestTensor::output(&narrow).ok().unwrap();
        assert_eq!(given.ty, TensorType::I32);
        assert_eq!(given.check().ok().unwrap().to_vec::<i32>().unwrap(), [-1, 5]);
        let wide = Tensor::from_slice([1], &[1u64]).unwrap();
        assert_eq!(GuestTensor::output(&wide).err().unwrap().code, ErrorCode::UnsupportedOperation);
    }
}
