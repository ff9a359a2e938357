//! Typed numbers: what a reference reads and gives.

use std::borrow::Borrow;

use crate::expr::Value;
use crate::kernel::Scalar;

/// What a reference reads, whether its caller owns it or not.
pub(crate) fn borrowed<D: Borrow<Data>>(inputs: &[D]) -> Vec<&Data> {
    inputs.iter().map(Borrow::borrow).collect()
}

/// The contents of one device buffer.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are those of `Scalar`")]
pub enum Data {
    F32(Vec<f32>),
    I32(Vec<i32>),
    U32(Vec<u32>),
}

impl Data {
    /// The element type.
    pub const fn scalar(&self) -> Scalar {
        match self {
            Self::F32(_) => Scalar::F32,
            Self::I32(_) => Scalar::I32,
            Self::U32(_) => Scalar::U32,
        }
    }

    /// The number of elements.
    pub const fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::U32(values) => values.len(),
        }
    }

    /// Whether there is no element.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as a device holds them.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::I32(values) => bytemuck::cast_slice(values),
            Self::U32(values) => bytemuck::cast_slice(values),
        }
    }

    /// What a device holds, as elements; a remainder of less than four bytes is ignored.
    pub fn from_bytes(scalar: Scalar, bytes: &[u8]) -> Self {
        let words = bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
        match scalar {
            Scalar::F32 => Self::F32(words.map(f32::from_le_bytes).collect()),
            Scalar::I32 => Self::I32(words.map(i32::from_le_bytes).collect()),
            Scalar::U32 => Self::U32(words.map(u32::from_le_bytes).collect()),
        }
    }

    /// One element.
    ///
    /// # Panics
    /// Where there is none.
    pub fn at(&self, index: usize) -> Value {
        match self {
            Self::F32(values) => Value::F32(values[index]),
            Self::I32(values) => Value::I32(values[index]),
            Self::U32(values) => Value::U32(values[index]),
        }
    }

    /// All of `values`, which are of one type.
    ///
    /// # Panics
    /// Where one is of another.
    pub fn collect(scalar: Scalar, values: impl Iterator<Item = Value>) -> Self {
        let words: Vec<u8> = values
            .flat_map(|value| match (scalar, value) {
                (Scalar::F32, Value::F32(value)) => value.to_le_bytes(),
                (Scalar::I32, Value::I32(value)) => value.to_le_bytes(),
                (Scalar::U32, Value::U32(value)) => value.to_le_bytes(),
                (scalar, value) => panic!("{value:?} where {scalar:?} is due"),
            })
            .collect();
        Self::from_bytes(scalar, &words)
    }

    /// The floats.
    ///
    /// # Panics
    /// Where the elements are integers.
    pub fn f32(&self) -> &[f32] {
        let Self::F32(values) = self else { panic!("{:?} where F32 is due", self.scalar()) };
        values
    }

    /// The signed integers.
    ///
    /// # Panics
    /// Where the elements are others.
    pub fn i32(&self) -> &[i32] {
        let Self::I32(values) = self else { panic!("{:?} where I32 is due", self.scalar()) };
        values
    }

    /// The unsigned integers.
    ///
    /// # Panics
    /// Where the elements are others.
    pub fn u32(&self) -> &[u32] {
        let Self::U32(values) = self else { panic!("{:?} where U32 is due", self.scalar()) };
        values
    }
}
