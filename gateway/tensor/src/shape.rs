//! Shapes: dimensions with sizes that are checked once.

use std::fmt;
use std::ops::Deref;

use crate::TensorError;

/// The dimensions of a tensor, outermost first; a scalar has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// The dimensions as given, without a check of their product.
    pub fn new(dims: impl Into<Vec<usize>>) -> Self {
        Self(dims.into())
    }

    /// How many elements the shape holds.
    ///
    /// # Errors
    /// [`TensorError::TooLarge`] where the product does not fit a `usize`.
    pub fn len_checked(&self) -> Result<usize, TensorError> {
        self.0
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .ok_or_else(|| TensorError::TooLarge(self.clone()))
    }

    /// How many elements the shape holds; the shape of a [`crate::Tensor`] always has a count.
    ///
    /// # Panics
    /// Where the product does not fit a `usize`; check foreign shapes with [`Self::len_checked`].
    pub fn elements(&self) -> usize {
        self.len_checked().expect("shapes are checked where they enter")
    }

    /// Row-major strides, in elements.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1usize; self.0.len()];
        for axis in (1..self.0.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(self.0[axis]);
        }
        strides
    }

    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self(dims.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self(dims.to_vec())
    }
}

impl<const N: usize> From<&[usize; N]> for Shape {
    fn from(dims: &[usize; N]) -> Self {
        Self(dims.to_vec())
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Self(dims)
    }
}

/// Real models have five or six dimensions; more of them tell a reader nothing.
const SHOWN_DIMS_MAX: usize = 12;

/// Prints as `[2, 128, 384]`. Of a shape with very many dimensions it shows the first, and how many
/// there are.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_DIMS_MAX)];
        let mut list = f.debug_list();
        list.entries(shown);
        if shown.len() < self.0.len() {
            return list.entry(&format_args!("… {} dimensions", self.0.len())).finish();
        }
        list.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_prints_short() {
        assert_eq!(Shape::new([2, 128, 384]).to_string(), "[2, 128, 384]");
        assert_eq!(Shape::new([]).to_string(), "[]");
        let text = Shape::new(vec![1; 1000]).to_string();
        assert_eq!(text, format!("[{}… 1000 dimensions]", "1, ".repeat(SHOWN_DIMS_MAX)));
    }
}
