//! The standard output of one module, kept whole.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::imports::print::Sink;

/// What was printed, up to a limit; a guest that prints more is ended. Clones write to the same.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Printed>>);

struct Printed {
    bytes: BytesMut,
    max: usize,
    over: bool,
}

impl Output {
    pub(super) fn new(max: usize) -> Self {
        Self(Arc::new(Mutex::new(Printed { bytes: BytesMut::new(), max, over: false })))
    }

    /// Everything that was printed, or the limit where that was more.
    pub(super) fn take(&self) -> Result<Bytes, usize> {
        self.with(|printed| match printed.over {
            true => Err(printed.max),
            false => Ok(std::mem::take(&mut printed.bytes).freeze()),
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Printed) -> T) -> T {
        // Bytes are plain data: a panic leaves fewer of them at most.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for Output {
    fn accept(&self, bytes: &[u8]) -> Result<(), &'static str> {
        self.with(|printed| {
            printed.over |= bytes.len() > printed.max.saturating_sub(printed.bytes.len());
            if printed.over {
                return Err("the response is too large");
            }
            printed.bytes.extend_from_slice(bytes);
            Ok(())
        })
    }
}
