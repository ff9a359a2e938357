//! The numbers that tensors hold.

/// The type of a tensor's elements.
pub use crate::bindings::wasi::nn::tensor::TensorType as ElementType;

/// A number that tensors can hold.
///
/// With the feature `half`, `half::f16` and `half::bf16` too.
#[diagnostic::on_unimplemented(
    message = "a tensor cannot hold `{Self}`",
    note = "it holds `f32`, `f64`, `u8`, `i32` or `i64`, and `half::f16` or `half::bf16` with the \
            feature `half`"
)]
pub trait Element: Copy + 'static {
    /// Its type in `wasi:nn`.
    const TYPE: ElementType;

    /// The elements as little-endian bytes.
    #[doc(hidden)]
    fn bytes(elements: &[Self]) -> &[u8];

    /// The elements that these little-endian bytes are; what is left over is ignored.
    #[doc(hidden)]
    fn elements(bytes: Vec<u8>) -> Vec<Self>;
}

macro_rules! elements {
    ($($number:ty => $ty:ident),* $(,)?) => {$(
        impl Element for $number {
            const TYPE: ElementType = ElementType::$ty;

            fn bytes(elements: &[Self]) -> &[u8] {
                bytemuck::cast_slice(elements)
            }

            fn elements(bytes: Vec<u8>) -> Vec<Self> {
                let whole = bytes.len() - bytes.len() % size_of::<Self>();
                bytemuck::pod_collect_to_vec(&bytes[..whole])
            }
        }
    )*};
}

elements! { f32 => Fp32, f64 => Fp64, i32 => I32, i64 => I64 }

#[cfg(feature = "half")]
elements! { half::f16 => Fp16, half::bf16 => Bf16 }

impl Element for u8 {
    const TYPE: ElementType = ElementType::U8;

    fn bytes(elements: &[Self]) -> &[u8] {
        elements
    }

    fn elements(bytes: Vec<u8>) -> Vec<Self> {
        bytes
    }
}

/// As it is written in Rust, for messages.
pub(crate) fn name(ty: ElementType) -> &'static str {
    match ty {
        ElementType::Fp16 => "f16",
        ElementType::Fp32 => "f32",
        ElementType::Fp64 => "f64",
        ElementType::Bf16 => "bf16",
        ElementType::U8 => "u8",
        ElementType::I32 => "i32",
        ElementType::I64 => "i64",
    }
}
