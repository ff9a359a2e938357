//! The tensors of a guest: bytes with a claim, checked where they enter a model, and the answers
//! of models, which stay as they are until a guest reads them.

use std::sync::Arc;

use bytes::Bytes;
use gw_tensor::{DType, Element, Tensor, TensorError};
use wasmtime::component::{ComponentType, Lift, Lower};

use super::allowance::{Allowance, Charge};
use super::error::{ErrorCode, NnError};

/// More dimensions than any model has; it bounds what is copied and printed.
pub(crate) const RANK_MAX: usize = 16;

/// The element types of wasi-nn; all snapshots have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum TensorType {
    #[component(name = "FP16")]
    Fp16,
    #[component(name = "FP32")]
    Fp32,
    #[component(name = "FP64")]
    Fp64,
    #[component(name = "BF16")]
    Bf16,
    #[component(name = "U8")]
    U8,
    #[component(name = "I32")]
    I32,
    #[component(name = "I64")]
    I64,
}

/// A tensor as a guest made it, or as a model answered it. A clone shares the bytes and what they
/// take of the request's allowance.
#[derive(Clone)]
pub(crate) struct NnTensor {
    held: Held,
    _charge: Option<Arc<Charge>>,
}

#[derive(Clone)]
enum Held {
    /// The constructor of `wasi:nn/tensor` cannot fail, so nothing is known of this one until it
    /// enters a model.
    Claim { dimensions: Vec<u32>, ty: TensorType, data: Bytes },
    /// As the model gave it, in a type that wasi-nn has or that widens to one.
    Answer(Tensor, TensorType),
    /// It would have exceeded what one request may hold, so nothing of it was kept.
    TooLarge(TensorType),
}

impl NnTensor {
    /// What a guest claims, of `rank` dimensions and `bytes` bytes, which `copy` takes from it.
    /// They are not taken where they exceed the allowance; a model says so later.
    pub(crate) fn claim(
        allowance: &Allowance,
        ty: TensorType,
        (rank, bytes): (usize, usize),
        copy: impl FnOnce() -> (Vec<u32>, Bytes),
    ) -> Self {
        let Some(charge) = allowance.take(taken(rank, bytes)) else {
            return Self { held: Held::TooLarge(ty), _charge: None };
        };
        let (dimensions, data) = copy();
        let held = Held::Claim { dimensions, ty, data };
        Self { held, _charge: Some(Arc::new(charge)) }
    }

    /// A model's answer; nothing is copied.
    pub(super) fn answer(allowance: &Allowance, tensor: Tensor) -> Result<Self, NnError> {
        let (dimensions, ty) = said(&tensor)?;
        let bytes = tensor.elements().saturating_mul(dtype(ty).size());
        let charge = allowance.take(taken(dimensions.len(), bytes)).ok_or_else(too_large)?;
        Ok(Self { held: Held::Answer(tensor, ty), _charge: Some(Arc::new(charge)) })
    }

    pub(crate) fn dimensions(&self) -> Vec<u32> {
        match &self.held {
            Held::Claim { dimensions, .. } => dimensions.clone(),
            Held::Answer(tensor, _) => said(tensor).expect("answers were checked").0,
            Held::TooLarge(_) => Vec::new(),
        }
    }

    pub(crate) fn ty(&self) -> TensorType {
        match self.held {
            Held::Claim { ty, .. } | Held::Answer(_, ty) | Held::TooLarge(ty) => ty,
        }
    }

    /// The bytes, shared where the tensor has a type of wasi-nn.
    pub(crate) fn data(&self) -> Bytes {
        match &self.held {
            Held::Claim { data, .. } => data.clone(),
            Held::Answer(tensor, ty) => bytes_in(tensor, *ty),
            Held::TooLarge(_) => Bytes::new(),
        }
    }

    /// The tensor for a model's input, which is declared as `wanted`. It shares the bytes; and an
    /// answer in a type that wasi-nn lacks is taken as it is where that is what is wanted.
    pub(super) fn input(&self, wanted: Option<DType>) -> Result<Tensor, NnError> {
        match &self.held {
            Held::Answer(tensor, _) if wanted == Some(tensor.dtype()) => Ok(tensor.clone()),
            Held::Answer(tensor, ty) => {
                let data = bytes_in(tensor, *ty);
                Ok(Tensor::new(dtype(*ty), tensor.shape().clone(), data)
                    .expect("a wider type has the bytes for the same shape"))
            }
            Held::Claim { dimensions, ty, data } => claimed(dimensions, *ty, data.clone()),
            Held::TooLarge(_) => Err(too_large()),
        }
    }
}

/// The tensor that a guest claims it is; it shares the bytes.
pub(crate) fn claimed(dimensions: &[u32], ty: TensorType, data: Bytes) -> Result<Tensor, NnError> {
    let invalid = |reason: String| NnError::new(ErrorCode::InvalidArgument, reason);
    if dimensions.len() > RANK_MAX {
        let rank = dimensions.len();
        return Err(invalid(format!("{rank} dimensions are more than the {RANK_MAX} allowed")));
    }
    let dims: Vec<usize> = dimensions.iter().map(|&size| size as usize).collect();
    Tensor::new(dtype(ty), dims, data).map_err(|error: TensorError| invalid(error.to_string()))
}

/// How wasi-nn says an answer: `bool` is read as U8, and integers that it lacks are widened.
pub(crate) fn said(tensor: &Tensor) -> Result<(Vec<u32>, TensorType), NnError> {
    let unsupported = |reason: String| NnError::new(ErrorCode::UnsupportedOperation, reason);
    let ty = match tensor.dtype() {
        DType::F16 => TensorType::Fp16,
        DType::F32 => TensorType::Fp32,
        DType::F64 => TensorType::Fp64,
        DType::Bf16 => TensorType::Bf16,
        DType::U8 | DType::Bool => TensorType::U8,
        DType::I8 | DType::I16 | DType::U16 | DType::I32 => TensorType::I32,
        DType::U32 | DType::I64 => TensorType::I64,
        other => return Err(unsupported(format!("wasi-nn has no type for {other}"))),
    };
    let sizes = tensor.shape().iter().map(|&size| u32::try_from(size));
    let dimensions = sizes
        .collect::<Result<Vec<u32>, _>>()
        .map_err(|_| unsupported(format!("the shape {} exceeds 32 bits", tensor.shape())))?;
    Ok((dimensions, ty))
}

/// What a tensor takes of the allowance: the dimensions are the guest's too.
fn taken(rank: usize, bytes: usize) -> usize {
    bytes.saturating_add(rank.saturating_mul(size_of::<u32>()))
}

pub(crate) fn dtype(ty: TensorType) -> DType {
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

/// The elements in the type that [`said`] gives; shared where they are so already.
pub(crate) fn bytes_in(tensor: &Tensor, ty: TensorType) -> Bytes {
    match (tensor.dtype(), ty) {
        (DType::I8, _) => widened::<i8, 4>(tensor, |x| i32::from(x).to_le_bytes()),
        (DType::I16, _) => widened::<i16, 4>(tensor, |x| i32::from(x).to_le_bytes()),
        (DType::U16, _) => widened::<u16, 4>(tensor, |x| i32::from(x).to_le_bytes()),
        (DType::U32, _) => widened::<u32, 8>(tensor, |x| i64::from(x).to_le_bytes()),
        _ => tensor.bytes().clone(),
    }
}

fn widened<T: Element, const N: usize>(tensor: &Tensor, widen: impl Fn(T) -> [u8; N]) -> Bytes {
    let elements = tensor.as_slice::<T>().expect("the caller matched the element type");
    elements.iter().flat_map(|&element| widen(element)).collect()
}

pub(super) fn too_large() -> NnError {
    NnError::new(ErrorCode::TooLarge, "the tensors of this request exceed what one may hold")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(allowance: &Allowance, dimensions: &[u32], bytes: usize) -> NnTensor {
        let copy = || (dimensions.to_vec(), Bytes::from(vec![0; bytes]));
        NnTensor::claim(allowance, TensorType::Fp32, (dimensions.len(), bytes), copy)
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
        let allowance = Allowance::new(1 << 10);
        for Case(dimensions, bytes, error) in cases {
            let checked = claim(&allowance, dimensions, bytes).input(None);
            assert_eq!(checked.err().map(|error| error.data).as_deref(), error, "{dimensions:?}");
        }
        assert_eq!(allowance.left(), 1 << 10, "all were dropped");
    }

    #[test]
    fn a_claim_beyond_the_allowance_is_not_even_copied() {
        let copy = || panic!("copied");
        let tensor = NnTensor::claim(&Allowance::new(15), TensorType::I64, (2, 8), copy);
        assert_eq!((tensor.ty(), tensor.data().len()), (TensorType::I64, 0));
        assert_eq!(tensor.input(None).unwrap_err().code, ErrorCode::TooLarge);
    }

    #[test]
    fn answers_keep_their_values_in_the_types_of_wasi_nn() {
        let allowance = Allowance::new(8);
        let narrow = Tensor::from_slice([1], &[-1i8]).unwrap();
        let given = NnTensor::answer(&allowance, narrow.clone()).unwrap();
        assert_eq!(allowance.left(), 0, "four bytes to read, four for the dimension");
        assert_eq!((given.ty(), &given.data()[..]), (TensorType::I32, &(-1i32).to_le_bytes()[..]));
        // The next model gets it as its input is declared.
        let next = |wanted| given.input(Some(wanted)).unwrap();
        assert_eq!(next(DType::I32).to_vec::<i32>().unwrap(), [-1]);
        assert_eq!(next(DType::I8).bytes().as_ptr(), narrow.bytes().as_ptr());
        let wide = Tensor::from_slice([1], &[1u64]).unwrap();
        let refused = NnTensor::answer(&Allowance::new(99), wide).err().unwrap();
        assert_eq!(refused.code, ErrorCode::UnsupportedOperation);
    }

    #[test]
    fn an_answer_is_shared_and_not_copied() {
        let allowance = Allowance::new(64);
        let tensor = Tensor::from_slice([2], &[1f32, 2.0]).unwrap();
        let at = tensor.bytes().as_ptr();
        let answer = NnTensor::answer(&allowance, tensor).unwrap();
        let shared = answer.clone();
        assert_eq!(allowance.left(), 64 - 12, "a clone takes nothing");
        assert_eq!(shared.data().as_ptr(), at);
        assert_eq!(shared.input(Some(DType::F32)).unwrap().bytes().as_ptr(), at);
    }
}
