//! [`Tensor`]: numbers with a shape; [`Input`]: one of any type, on its way to a model.

use std::fmt;

use super::{Element, ElementType, Error, ErrorKind, element};

/// Numbers with a shape, in row-major order. They always fill the shape.
///
/// ```
/// use gw_sdk::nn::Tensor;
///
/// let tensor = Tensor::new([2, 3], [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// let [rows, columns] = tensor.shape()?;
/// assert_eq!((rows, columns), (2, 3));
/// let sums: Vec<f32> = tensor.rows().map(|row| row.iter().sum()).collect();
/// assert_eq!(sums, [6.0, 15.0]);
///
/// let error = Tensor::new([2, 3], [1.0f32; 5]).unwrap_err();
/// assert_eq!(error.message, "a tensor of [2, 3] takes 6 values, not 5");
/// # Ok::<(), gw_sdk::nn::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tensor<T> {
    dims: Vec<usize>,
    values: Vec<T>,
    /// What the model calls it.
    name: Option<Box<str>>,
}

impl<T: Element> Tensor<T> {
    /// A tensor of these values, outermost dimension first.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] where they do not fill the shape.
    pub fn new(dims: impl Into<Vec<usize>>, values: impl Into<Vec<T>>) -> Result<Self, Error> {
        let (dims, values) = (dims.into(), values.into());
        match volume(&dims) {
            Some(volume) if volume == values.len() => Ok(Self { dims, values, name: None }),
            volume => {
                let takes = volume.map_or("too many".to_owned(), |volume| volume.to_string());
                let shape = &dims;
                let given = values.len();
                let message = format!("a tensor of {shape:?} takes {takes} values, not {given}");
                Err(Error::new(ErrorKind::Mismatch, message))
            }
        }
    }

    /// What a model answered under `name`.
    pub(super) fn named(name: &str, dims: Vec<usize>, values: Vec<T>) -> Result<Self, Error> {
        let tensor = Self::new(dims, values).map_err(|error| {
            Error::new(error.kind, format!("output {name:?}: {}", error.message))
        })?;
        Ok(Self { name: Some(name.into()), ..tensor })
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The dimensions of a tensor with as many as the caller takes, as in
    /// `let [rows, columns] = tensor.shape()?`.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] where it has more or fewer.
    pub fn shape<const RANK: usize>(&self) -> Result<[usize; RANK], Error> {
        self.dims.as_slice().try_into().map_err(|_| self.unexpected(&[None; RANK]))
    }

    /// The same tensor, if it has these dimensions; `None` is any size.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`], with both shapes.
    pub fn expect_dims<const RANK: usize>(
        self,
        expected: [Option<usize>; RANK],
    ) -> Result<Self, Error> {
        let fits = self.dims.len() == RANK
            && self
                .dims
                .iter()
                .zip(expected)
                .all(|(&size, expected)| expected.is_none_or(|expected| expected == size));
        if fits { Ok(self) } else { Err(self.unexpected(&expected)) }
    }

    fn unexpected(&self, expected: &[Option<usize>]) -> Error {
        let what =
            self.name.as_ref().map_or("a tensor".to_owned(), |name| format!("output {name:?}"));
        let expected: Vec<_> = expected
            .iter()
            .map(|size| size.map_or("any".to_owned(), |size| size.to_string()))
            .collect();
        let (dims, expected) = (&self.dims, expected.join(", "));
        Error::new(
            ErrorKind::Mismatch,
            format!("{what} is {dims:?} where [{expected}] is expected"),
        )
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no value: a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The values in row-major order.
    pub fn as_slice(&self) -> &[T] {
        &self.values
    }

    /// The values in row-major order, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.values
    }

    /// The values in row-major order.
    pub fn into_vec(self) -> Vec<T> {
        self.values
    }

    /// Slices along the innermost dimension. A tensor without dimensions is one row.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, T> {
        let width = self.dims.last().copied().unwrap_or(1);
        self.values.chunks_exact(width.max(1))
    }
}

impl<T: PartialEq> PartialEq for Tensor<T> {
    /// Dimensions and values; not where it comes from.
    fn eq(&self, other: &Self) -> bool {
        self.dims == other.dims && self.values == other.values
    }
}

/// How many values fill a shape, if so many can be counted.
fn volume(dims: &[usize]) -> Option<usize> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1usize, |volume, &size| volume.checked_mul(size))
}

/// A tensor of any type, made of a [`Tensor`] with `into()`.
pub struct Input {
    pub(crate) dims: Vec<u32>,
    pub(crate) ty: ElementType,
    values: Box<dyn Values>,
}

/// Values as they go to the host, without a copy.
trait Values {
    fn bytes(&self) -> &[u8];
}

impl<T: Element> Values for Vec<T> {
    fn bytes(&self) -> &[u8] {
        T::bytes(self)
    }
}

impl Input {
    /// The elements, little-endian.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.values.bytes()
    }
}

impl<T: Element> From<Tensor<T>> for Input {
    fn from(tensor: Tensor<T>) -> Self {
        // Only an empty tensor can have a size beyond 32 bits, and no model takes it.
        let dims = tensor.dims.iter().map(|&size| u32::try_from(size).unwrap_or(u32::MAX));
        Self { dims: dims.collect(), ty: T::TYPE, values: Box::new(tensor.values) }
    }
}

impl<T: Element> From<&Tensor<T>> for Input {
    fn from(tensor: &Tensor<T>) -> Self {
        tensor.clone().into()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", element::name(self.ty), self.dims)
    }
}
