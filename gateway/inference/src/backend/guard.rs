//! Panics of the libraries below stop here.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::InferenceError;

/// Runs `work`; a panic becomes [`InferenceError::Panicked`].
///
/// What `work` touches must stay usable after a panic: a loaded model that a run only reads, or
/// one that is dropped because its load failed.
pub(super) fn guard<T>(
    model: &str,
    device: &str,
    work: impl FnOnce() -> Result<T, InferenceError>,
) -> Result<T, InferenceError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(InferenceError::Panicked {
            model: model.to_owned(),
            device: device.to_owned(),
            reason: message(panic.as_ref()).to_owned(),
        })
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        let index = std::hint::black_box(7);
        let result = guard("m", "cpu", || Ok([1, 2, 3][index]));
        let Err(InferenceError::Panicked { reason, .. }) = result else {
            panic!("{result:?} is no panic")
        };
        assert_eq!(reason, "index out of bounds: the len is 3 but the index is 7");
    }
}
