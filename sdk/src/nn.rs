//! Models by name, and the tensors that go in and out.
//!
//! ```no_run
//! use gw_sdk::nn::{Graph, Tensor};
//!
//! # fn main() -> Result<(), gw_sdk::Error> {
//! let graph = Graph::load("minilm")?;
//! let ids = Tensor::new(&[1, 3], &[101i64, 4937, 102]);
//! let outputs = graph.compute(vec![("input_ids", ids)])?;
//! let hidden = outputs.read("last_hidden_state")?;
//! println!("{:?}: {:?}", hidden.dims, hidden.to_vec::<f32>()?);
//! # Ok(())
//! # }
//! ```

use std::fmt;

use crate::bindings::wasi::nn::errors::{Error as WitError, ErrorCode};
use crate::bindings::wasi::nn::graph::{self, Graph as WitGraph};
use crate::bindings::wasi::nn::inference::GraphExecutionContext;
use crate::bindings::wasi::nn::tensor::{Tensor as WitTensor, TensorType};

/// The type of a tensor's elements.
pub use crate::bindings::wasi::nn::tensor::TensorType as ElementType;

/// A model that was loaded by the name it has in `gw.toml`.
pub struct Graph(WitGraph);

impl Graph {
    /// Loads a model that the manifest grants to this plugin. It is already in memory; this only
    /// looks it up.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where no such model is granted.
    pub fn load(name: &str) -> Result<Self, Error> {
        Ok(Self(graph::load_by_name(name)?))
    }

    /// Runs the model once. Every input has the name that the model file gives it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] where the inputs do not fit the model, and whatever its
    /// device reports.
    pub fn compute(&self, inputs: Vec<(&str, Tensor)>) -> Result<Outputs, Error> {
        self.context()?.compute(inputs)
    }

    /// Begins a sequence of runs.
    ///
    /// # Errors
    /// Whatever the host reports.
    pub fn context(&self) -> Result<Context, Error> {
        Ok(Context(self.0.init_execution_context()?))
    }
}

/// A sequence of runs. Of a model that has `state` in `gw.toml`, each run goes on where the last
/// one ended, so its state inputs are left out; one that is given begins anew with it.
pub struct Context(GraphExecutionContext);

impl Context {
    /// Runs the model once, as [`Graph::compute`].
    ///
    /// # Errors
    /// As [`Graph::compute`]; the state is then as it was.
    pub fn compute(&self, inputs: Vec<(&str, Tensor)>) -> Result<Outputs, Error> {
        let inputs = inputs
            .into_iter()
            .map(|(name, tensor)| (name.to_owned(), tensor.into_wit()))
            .collect::<Vec<_>>();
        Ok(Outputs(self.0.compute(inputs)?))
    }
}

/// What a model answered. Nothing is copied into the guest until it is read.
pub struct Outputs(Vec<(String, WitTensor)>);

impl Outputs {
    /// The names, in the model's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// One output, copied into the guest.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where the model has no such output.
    pub fn read(&self, name: &str) -> Result<Tensor, Error> {
        let Some((_, tensor)) = self.0.iter().find(|(given, _)| given == name) else {
            let names: Vec<_> = self.names().collect();
            let message = format!("the model has no output {name:?}, only {}", names.join(", "));
            return Err(Error { kind: ErrorKind::NotFound, message });
        };
        let dims = tensor.dimensions().into_iter().map(|size| size as usize).collect();
        Ok(Tensor { dims, ty: tensor.ty(), data: tensor.data() })
    }
}

/// Numbers with a shape, in row-major order.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The dimensions, outermost first.
    pub dims: Vec<usize>,
    /// The type of the elements.
    pub ty: TensorType,
    /// The elements, little-endian.
    pub data: Vec<u8>,
}

impl Tensor {
    /// A tensor of these elements. The host checks that they fill the shape.
    pub fn new<T: Element>(dims: &[usize], elements: &[T]) -> Self {
        let mut data = Vec::with_capacity(size_of_val(elements));
        for element in elements {
            element.write(&mut data);
        }
        Self { dims: dims.to_vec(), ty: T::TYPE, data }
    }

    /// The elements.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] where they have another type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, Error> {
        if self.ty != T::TYPE {
            let message = format!("the tensor holds {:?}, not {:?}", self.ty, T::TYPE);
            return Err(Error { kind: ErrorKind::InvalidArgument, message });
        }
        Ok(self.data.chunks_exact(size_of::<T>()).map(T::read).collect())
    }

    fn into_wit(self) -> WitTensor {
        // A size beyond 32 bits cannot be filled by a guest's memory; the host refuses it.
        let dims: Vec<u32> =
            self.dims.iter().map(|&size| u32::try_from(size).unwrap_or(u32::MAX)).collect();
        WitTensor::new(&dims, self.ty, &self.data)
    }
}

/// A number that tensors can hold.
pub trait Element: Copy {
    /// Its type in `wasi:nn`.
    const TYPE: TensorType;
    /// Appends the little-endian bytes.
    fn write(&self, bytes: &mut Vec<u8>);
    /// Reads the little-endian bytes of one element.
    fn read(bytes: &[u8]) -> Self;
}

macro_rules! elements {
    ($($number:ty => $ty:ident),* $(,)?) => {$(
        impl Element for $number {
            const TYPE: TensorType = TensorType::$ty;

            fn write(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn read(bytes: &[u8]) -> Self {
                let bytes = bytes.try_into().expect("the caller cuts whole elements");
                <$number>::from_le_bytes(bytes)
            }
        }
    )*};
}

elements! { f32 => Fp32, f64 => Fp64, u8 => U8, i32 => I32, i64 => I64 }

/// Why a model did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// The host's words.
    pub message: String,
}

/// The kinds of failure, as `wasi:nn` tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// An input does not fit the model.
    InvalidArgument,
    /// The deadline passed first.
    Timeout,
    /// No such model is granted, or no such output exists.
    NotFound,
    /// The tensors of one request exceed what it may hold.
    TooLarge,
    /// The host does not offer this.
    Unsupported,
    /// The model or its device failed.
    Failed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<WitError> for Error {
    fn from(error: WitError) -> Self {
        let kind = match error.code() {
            ErrorCode::InvalidArgument => ErrorKind::InvalidArgument,
            ErrorCode::Timeout => ErrorKind::Timeout,
            ErrorCode::NotFound => ErrorKind::NotFound,
            ErrorCode::TooLarge => ErrorKind::TooLarge,
            ErrorCode::InvalidEncoding | ErrorCode::UnsupportedOperation | ErrorCode::Security => {
                ErrorKind::Unsupported
            }
            ErrorCode::RuntimeError | ErrorCode::Unknown => ErrorKind::Failed,
        };
        Self { kind, message: error.data() }
    }
}

/// What a client is told when a plugin passes the error on with `?`. None of it is the client's
/// doing: a plugin that lets clients choose shapes checks them itself.
impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        let (status, code) = match error.kind {
            ErrorKind::Timeout => (504, "inference_timeout"),
            ErrorKind::Failed => (503, "inference_failed"),
            ErrorKind::NotFound => (500, "model_not_found"),
            ErrorKind::InvalidArgument | ErrorKind::TooLarge | ErrorKind::Unsupported => {
                (500, "inference_refused")
            }
        };
        crate::Error::new(status, code, error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_survive_the_way_through_bytes() {
        let tensor = Tensor::new(&[2, 2], &[1i64, -2, 3, i64::MIN]);
        assert_eq!(tensor.to_vec::<i64>().unwrap(), [1, -2, 3, i64::MIN]);
        assert_eq!(tensor.data.len(), 32);
        let error = tensor.to_vec::<f32>().unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
    }
}
