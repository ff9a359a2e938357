//! The tensors of a guest: bytes with a claim, checked where they enter a model, and the answers
//! of models, which stay as they are, and where they are, until a guest reads them.

use std::sync::Arc;

use bytes::Bytes;
use gw_inference::{DeviceTensor, InferenceError, Value, read_back};
use gw_tensor::{DType, Element, Shape, Tensor, TensorError};
use tokio::sync::OnceCell;
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
    /// As the model left it on its device.
    Kept(Arc<Kept>, TensorType),
    /// It would have exceeded what one request may hold, so nothing of it was kept.
    TooLarge(TensorType),
}

/// An answer on a device, and in host memory once somebody needs it there.
struct Kept {
    tensor: DeviceTensor,
    /// The model that gave it, for errors.
    model: Arc<str>,
    read: OnceCell<Tensor>,
}

impl Kept {
    /// Waits for the device on a thread that may block.
    async fn read(&self) -> Result<&Tensor, InferenceError> {
        let read = || async {
            let (tensor, model) = (self.tensor.clone(), Arc::clone(&self.model));
            let read = move || read_back(&model, Value::Device(tensor));
            tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| {
                let device = self.tensor.device().info().name.clone();
                let (model, reason) = (self.model.to_string(), error.to_string());
                Err(InferenceError::Device { model, device, reason })
            })
        };
        self.read.get_or_try_init(read).await
    }
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

    /// An answer of `model`; nothing is copied.
    pub(super) fn answer(
        allowance: &Allowance,
        value: Value,
        model: &str,
    ) -> Result<Self, NnError> {
        let (dimensions, ty) = said(value.dtype(), value.shape())?;
        let bytes = value.shape().elements().saturating_mul(dtype(ty).size());
        let charge = allowance.take(taken(dimensions.len(), bytes)).ok_or_else(too_large)?;
        let held = match value {
            Value::Host(tensor) => Held::Answer(tensor, ty),
            Value::Device(tensor) => {
                let (model, read) = (model.into(), OnceCell::new());
                Held::Kept(Arc::new(Kept { tensor, model, read }), ty)
            }
        };
        Ok(Self { held, _charge: Some(Arc::new(charge)) })
    }

    pub(crate) fn dimensions(&self) -> Vec<u32> {
        let (dtype, shape) = match &self.held {
            Held::Claim { dimensions, .. } => return dimensions.clone(),
            Held::Answer(tensor, _) => (tensor.dtype(), tensor.shape()),
            Held::Kept(kept, _) => (kept.tensor.dtype(), kept.tensor.shape()),
            Held::TooLarge(_) => return Vec::new(),
        };
        said(dtype, shape).expect("answers were checked").0
    }

    pub(crate) fn ty(&self) -> TensorType {
        match self.held {
            Held::Claim { ty, .. }
            | Held::Answer(_, ty)
            | Held::Kept(_, ty)
            | Held::TooLarge(ty) => ty,
        }
    }

    /// The bytes, shared where the tensor has a type of wasi-nn, and read back once where it is on
    /// a device.
    ///
    /// # Errors
    /// Where the device fails.
    pub(crate) async fn data(&self) -> Result<Bytes, InferenceError> {
        Ok(match &self.held {
            Held::Claim { data, .. } => data.clone(),
            Held::Answer(tensor, ty) => bytes_in(tensor, *ty),
            Held::Kept(kept, ty) => bytes_in(kept.read().await?, *ty),
            Held::TooLarge(_) => Bytes::new(),
        })
    }

    /// Whether it can be the input of a model.
    pub(super) fn check(&self) -> Result<(), NnError> {
        match &self.held {
            Held::Answer(..) | Held::Kept(..) => Ok(()),
            Held::Claim { dimensions, ty, data } => {
                claimed(dimensions, *ty, data.clone()).map(drop)
            }
            Held::TooLarge(_) => Err(too_large()),
        }
    }

    /// The value for a model's input, which is declared as `wanted`. It shares the bytes; and an
    /// answer in a type that wasi-nn lacks is taken as it is where that is what is wanted, on its
    /// device too.
    pub(super) async fn input(&self, wanted: Option<DType>) -> Result<Value, NnError> {
        let (tensor, ty) = match &self.held {
            Held::Kept(kept, _) if wanted == Some(kept.tensor.dtype()) => {
                return Ok(Value::Device(kept.tensor.clone()));
            }
            Held::Kept(kept, ty) => (kept.read().await?, *ty),
            Held::Answer(tensor, ty) => (tensor, *ty),
            Held::Claim { dimensions, ty, data } => {
                return claimed(dimensions, *ty, data.clone()).map(Value::Host);
            }
            Held::TooLarge(_) => return Err(too_large()),
        };
        if wanted == Some(tensor.dtype()) {
            return Ok(tensor.clone().into());
        }
        let widened = Tensor::new(dtype(ty), tensor.shape().clone(), bytes_in(tensor, ty));
        Ok(widened.expect("a wider type has the bytes for the same shape").into())
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
pub(crate) fn said(answer: DType, shape: &Shape) -> Result<(Vec<u32>, TensorType), NnError> {
    let unsupported = |reason: String| NnError::new(ErrorCode::UnsupportedOperation, reason);
    let ty = match answer {
        DType::F16 => TensorType::Fp16,
        DType::F32 => TensorType::Fp32,
        DType::F64 => TensorType::Fp64,
        DType::Bf16 => TensorType::Bf16,
        DType::U8 | DType::Bool => TensorType::U8,
        DType::I8 | DType::I16 | DType::U16 | DType::I32 => TensorType::I32,
        DType::U32 | DType::I64 => TensorType::I64,
        other => return Err(unsupported(format!("wasi-nn has no type for {other}"))),
    };
    let sizes = shape.iter().map(|&size| u32::try_from(size));
    let dimensions = sizes
        .collect::<Result<Vec<u32>, _>>()
        .map_err(|_| unsupported(format!("the shape {shape} exceeds 32 bits")))?;
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
    use gw_engine::{AdapterSelect, Device, Model, Session, SessionOptions};

    use super::*;

    fn claim(allowance: &Allowance, dimensions: &[u32], bytes: usize) -> NnTensor {
        let copy = || (dimensions.to_vec(), Bytes::from(vec![0; bytes]));
        NnTensor::claim(allowance, TensorType::Fp32, (dimensions.len(), bytes), copy)
    }

    /// What a model that declares its input so gets of a tensor in host memory.
    async fn host(tensor: &NnTensor, wanted: DType) -> Tensor {
        tensor.input(Some(wanted)).await.unwrap().host().unwrap().clone()
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
            let checked = claim(&allowance, dimensions, bytes).check();
            assert_eq!(checked.err().map(|error| error.data).as_deref(), error, "{dimensions:?}");
        }
        assert_eq!(allowance.left(), 1 << 10, "all were dropped");
    }

    #[tokio::test]
    async fn a_claim_beyond_the_allowance_is_not_even_copied() {
        let copy = || panic!("copied");
        let tensor = NnTensor::claim(&Allowance::new(15), TensorType::I64, (2, 8), copy);
        let length = tensor.data().await.unwrap().len();
        assert_eq!((tensor.ty(), length), (TensorType::I64, 0));
        assert_eq!(tensor.check().unwrap_err().code, ErrorCode::TooLarge);
        assert_eq!(tensor.input(None).await.unwrap_err().code, ErrorCode::TooLarge);
    }

    #[tokio::test]
    async fn answers_keep_their_values_in_the_types_of_wasi_nn() {
        let allowance = Allowance::new(8);
        let narrow = Tensor::from_slice([1], &[-1i8]).unwrap();
        let given = NnTensor::answer(&allowance, narrow.clone().into(), "m").unwrap();
        assert_eq!(allowance.left(), 0, "four bytes to read, four for the dimension");
        let data = given.data().await.unwrap();
        assert_eq!((given.ty(), &data[..]), (TensorType::I32, &(-1i32).to_le_bytes()[..]));
        // The next model gets it as its input is declared.
        assert_eq!(host(&given, DType::I32).await.to_vec::<i32>().unwrap(), [-1]);
        assert_eq!(host(&given, DType::I8).await.bytes().as_ptr(), narrow.bytes().as_ptr());
        let wide = Tensor::from_slice([1], &[1u64]).unwrap();
        let refused = NnTensor::answer(&Allowance::new(99), wide.into(), "m").err().unwrap();
        assert_eq!(refused.code, ErrorCode::UnsupportedOperation);
    }

    #[tokio::test]
    async fn an_answer_is_shared_and_not_copied() {
        let allowance = Allowance::new(64);
        let tensor = Tensor::from_slice([2], &[1f32, 2.0]).unwrap();
        let at = tensor.bytes().as_ptr();
        let answer = NnTensor::answer(&allowance, tensor.into(), "m").unwrap();
        let shared = answer.clone();
        assert_eq!(allowance.left(), 64 - 12, "a clone takes nothing");
        assert_eq!(shared.data().await.unwrap().as_ptr(), at);
        assert_eq!(host(&shared, DType::F32).await.bytes().as_ptr(), at);
    }

    /// An ONNX file: `y = x == x` over two floats.
    const EQUAL: &[u8] = b"\x08\x08\x42\x02\x10\x0d\x3a\x37\
        \x0a\x10\x0a\x01x\x0a\x01x\x12\x01y\x22\x05Equal\x12\x01g\
        \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x02\
        \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x09\x12\x04\x0a\x02\x08\x02";

    /// What a model left on a device: two that are true.
    fn on_a_device() -> Option<DeviceTensor> {
        let device = Device::open_unmapped(&AdapterSelect::Any).ok()?;
        let model = Arc::new(Model::parse(Bytes::from_static(EQUAL), "equal").unwrap());
        let session = Session::new(model, device, SessionOptions::default());
        let x = Tensor::from_slice([2], &[1f32, 2.0]).unwrap();
        let mut outputs = session.run_values(&[("x".to_owned(), x.into())], Some(0)).unwrap();
        match outputs.remove(0).1 {
            Value::Device(tensor) => Some(tensor),
            Value::Host(tensor) => panic!("{tensor:?} did not stay"),
        }
    }

    #[tokio::test]
    async fn a_kept_answer_stays_on_its_device_until_its_bytes_are_wanted() {
        let Some(tensor) = on_a_device() else { return };
        let allowance = Allowance::new(64);
        let answer = NnTensor::answer(&allowance, Value::Device(tensor.clone()), "m").unwrap();
        let shared = answer.clone();
        assert_eq!((answer.dimensions(), answer.ty()), (vec![2], TensorType::U8));
        assert_eq!(allowance.left(), 64 - 6, "as if it were in host memory");
        answer.check().unwrap();
        let next = answer.input(Some(DType::Bool)).await.unwrap();
        assert!(matches!(next, Value::Device(_)), "{next:?}");
        assert_eq!(&answer.data().await.unwrap()[..], [1, 1]);
        assert_eq!(host(&answer, DType::U8).await.bytes()[..], [1, 1]);
        // The clone has what was read already.
        tensor.device().destroy();
        assert_eq!(&shared.data().await.unwrap()[..], [1, 1]);
        drop((answer, shared));
        assert_eq!(allowance.left(), 64);
    }

    #[tokio::test]
    async fn a_kept_answer_of_a_lost_device_names_the_model_and_the_device() {
        let Some(tensor) = on_a_device() else { return };
        let answer = NnTensor::answer(&Allowance::new(64), Value::Device(tensor.clone()), "m");
        let answer = answer.unwrap();
        tensor.device().destroy();
        let error = answer.data().await.unwrap_err();
        let device = &tensor.device().info().name;
        let lost = matches!(&error, InferenceError::DeviceLost { model, .. } if model == "m");
        assert!(lost, "{error}");
        assert!(error.to_string().contains(device.as_str()), "{error}");
        assert_eq!(answer.input(None).await.unwrap_err().code, ErrorCode::RuntimeError);
    }
}
