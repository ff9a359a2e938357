//! Element types.

use std::fmt;

use half::{bf16, f16};

/// The type of one tensor element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// Brain floating point: the upper half of an `F32`.
    Bf16,
    /// IEEE 754 double precision.
    F64,
    /// Signed 8 bits.
    I8,
    /// Signed 16 bits.
    I16,
    /// Signed 32 bits.
    I32,
    /// Signed 64 bits.
    I64,
    /// Unsigned 8 bits.
    U8,
    /// Unsigned 16 bits.
    U16,
    /// Unsigned 32 bits.
    U32,
    /// Unsigned 64 bits.
    U64,
    /// One byte, 0 or 1.
    Bool,
    /// Eight bits: four of exponent, three of mantissa, no infinity (`FLOAT8E4M3FN`).
    F8E4m3,
    /// As [`DType::F8E4m3`], with another bias and no negative zero (`FLOAT8E4M3FNUZ`).
    F8E4m3Fnuz,
    /// Eight bits: five of exponent, two of mantissa (`FLOAT8E5M2`).
    F8E5m2,
    /// As [`DType::F8E5m2`], without infinities and negative zero (`FLOAT8E5M2FNUZ`).
    F8E5m2Fnuz,
    /// Eight bits of exponent: a power of two (`FLOAT8E8M0`).
    F8E8m0,
    /// Four bits, in a byte of its own: two of exponent, one of mantissa (`FLOAT4E2M1`).
    F4E2m1,
    /// Signed 4 bits, in a byte of its own, with its sign.
    I4,
    /// Unsigned 4 bits, in a byte of its own.
    U4,
    /// Signed 2 bits, in a byte of its own, with its sign.
    I2,
    /// Unsigned 2 bits, in a byte of its own.
    U2,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
            // What files pack more tightly has a byte of its own here.
            _ => 1,
        }
    }

    /// The name that users read and write, such as `f32` or `i64`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F64 => "f64",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::Bool => "bool",
            Self::F8E4m3 => "f8e4m3fn",
            Self::F8E4m3Fnuz => "f8e4m3fnuz",
            Self::F8E5m2 => "f8e5m2",
            Self::F8E5m2Fnuz => "f8e5m2fnuz",
            Self::F8E8m0 => "f8e8m0",
            Self::F4E2m1 => "f4e2m1",
            Self::I4 => "i4",
            Self::U4 => "u4",
            Self::I2 => "i2",
            Self::U2 => "u2",
        }
    }

    /// Whether the type is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16 | Self::F64) || self.is_small_float()
    }

    /// Whether the type is a floating-point type of eight bits or fewer, whose bytes
    /// [`crate::small`] reads.
    pub const fn is_small_float(self) -> bool {
        matches!(
            self,
            Self::F8E4m3
                | Self::F8E4m3Fnuz
                | Self::F8E5m2
                | Self::F8E5m2Fnuz
                | Self::F8E8m0
                | Self::F4E2m1
        )
    }

    /// The bits of one element as files pack it: less than a byte for the narrowest types.
    pub const fn bits(self) -> usize {
        match self {
            Self::I2 | Self::U2 => 2,
            Self::I4 | Self::U4 | Self::F4E2m1 => 4,
            other => 8 * other.size(),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type whose bytes are those of a [`DType`]. `Bool` is read and written as `u8`.
pub trait Element: bytemuck::Pod {
    /// The tensor type that holds this element.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($ty:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $ty { const DTYPE: DType = DType::$dtype; })*
    };
}

elements! {
    f32 => F32, f16 => F16, bf16 => Bf16, f64 => F64,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
}
