//! How long a sum of products of bytes stays exact in `f32`: while no partial sum exceeds 2^24.

use gw_tensor::{DType, Tensor};

use crate::error::OpError;

/// Sums up to this are exact in `f32`.
const EXACT_MAX: u64 = 1 << 24;

/// Parts of one sum, at most: the plan has a few steps for each.
const PARTS_MAX: usize = 1 << 10;

/// The largest size of an element.
pub(super) fn size_max(dtype: DType) -> u64 {
    match dtype {
        DType::I8 => 128,
        // Bytes less a zero point, too.
        _ => 255,
    }
}

/// The second factors of a sum: `[outer, length, inner]`.
pub(super) struct Factors<'a> {
    pub(super) dtype: DType,
    /// Their bytes, where they are known.
    pub(super) known: Option<&'a Tensor>,
    pub(super) sizes: [usize; 3],
    /// A sum goes over the last axis, too.
    pub(super) joins_inner: bool,
}

impl Factors<'_> {
    /// How far along `length` sums of products with factors up to `other` stay exact.
    pub(super) fn part(&self, other: u64) -> Result<usize, OpError> {
        let [_, length, inner] = self.sizes;
        let taps = if self.joins_inner { inner } else { 1 };
        let step = size_max(self.dtype).saturating_mul(other).saturating_mul(taps as u64);
        let always = usize::try_from(EXACT_MAX / step.max(1)).unwrap_or(0);
        if length <= always {
            return Ok(length.max(1));
        }
        if let Some(known) = self.known.filter(|known| known.dtype().size() == 1) {
            for count in [1, 2, 3, 4, 6, 8] {
                // Packed weights lie in words.
                let part = length.div_ceil(count).next_multiple_of(4);
                if part > always && self.is_exact(known, other, part) {
                    return Ok(part);
                }
            }
        }
        let part = if always >= 4 { always - always % 4 } else { always };
        if part == 0 || length.div_ceil(part) > PARTS_MAX {
            let what = format!("an integer sum over {length} times {taps} elements");
            return Err(OpError::Unsupported(what));
        }
        Ok(part)
    }

    fn is_exact(&self, known: &Tensor, other: u64, part: usize) -> bool {
        let [outer, length, inner] = self.sizes;
        let is_signed = known.dtype() == DType::I8;
        let mut bytes = known.bytes().iter();
        for _ in 0..outer {
            let mut sums = vec![0u64; if self.joins_inner { 1 } else { inner }];
            for position in 0..length {
                if position % part == 0 {
                    sums.fill(0);
                }
                for (index, &byte) in bytes.by_ref().take(inner).enumerate() {
                    let size = if is_signed { byte.cast_signed().unsigned_abs() } else { byte };
                    let sum = &mut sums[if self.joins_inner { 0 } else { index }];
                    *sum += u64::from(size) * other;
                    if *sum > EXACT_MAX {
                        return false;
                    }
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(known: Option<&Tensor>, length: usize, inner: usize, joins_inner: bool) -> usize {
        let sizes = [1, length, inner];
        Factors { dtype: DType::I8, known, sizes, joins_inner }.part(255).unwrap()
    }

    #[test]
    fn sums_are_cut_where_they_could_round() {
        // 128 * 255 * 514 is the last product below 2^24.
        assert_eq!(part(None, 514, 1, false), 514);
        assert_eq!(part(None, 515, 1, false), 512);
        assert_eq!(part(None, 600, 9, true), 56);
    }

    #[test]
    fn small_weights_need_no_cuts() {
        let small = Tensor::from_slice([3000], &[21i8; 3000]).unwrap();
        assert_eq!(part(Some(&small), 3000, 1, false), 3000);
        let large = Tensor::from_slice([3000], &[-22i8; 3000]).unwrap();
        assert_eq!(part(Some(&large), 3000, 1, false), 1500);
        // The same weights as columns, or as taps of one sum.
        assert_eq!(part(Some(&large), 1500, 2, false), 1500);
        assert_eq!(part(Some(&large), 1500, 2, true), 752);
    }

    #[test]
    fn what_cannot_be_exact_is_refused() {
        let sizes = [1, 1, 1000];
        let factors = Factors { dtype: DType::U8, known: None, sizes, joins_inner: true };
        assert!(factors.part(255).is_err());
    }
}
