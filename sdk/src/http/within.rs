//! [`within`]: numbers of a request, held to a range.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::Error;

/// `value`, if it lies in `range`.
///
/// ```
/// use gw_sdk::within;
///
/// assert_eq!(within("top", 5, 1..=1000)?, 5);
/// let error = within("min_score", f32::NAN, 0.0..=1.0).unwrap_err();
/// assert_eq!(error.to_string(), "out_of_range: min_score: NaN is not from 0 to 1");
/// # Ok::<(), gw_sdk::Error>(())
/// ```
///
/// # Errors
/// 422 `out_of_range` about `field`, with the range. What is not a number is in no range.
pub fn within<T: PartialOrd + Display>(
    field: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<T, Error> {
    if range.contains(&value) {
        return Ok(value);
    }
    let message = format!("{value} is not from {} to {}", range.start(), range.end());
    Err(Error::new(422, "out_of_range", message).field(field))
}
