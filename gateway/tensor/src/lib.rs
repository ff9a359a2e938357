//! Tensors as every layer of gw passes them: an element type, a shape, and little-endian bytes.
//!
//! It does no arithmetic: kernels live in `gw-shaders`, models in `gw-engine`.
//!
//! - [`dtype`]: the element types and how they are named.
//! - [`small`]: what the bytes of floats of eight bits and fewer mean.
//! - [`shape`]: dimensions with checked sizes.
//! - [`tensor`]: a shape with its bytes, cheap to clone.
//!
//! ```
//! use gw_tensor::Tensor;
//! let t = Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
//! assert_eq!(t.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
//! ```
#![forbid(unsafe_code)]

pub mod dtype;
pub mod shape;
pub mod small;
pub mod tensor;

pub use dtype::{DType, Element};
pub use shape::Shape;
pub use tensor::{Tensor, TensorError};
