//! The standard output of one module, kept whole.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

/// What a guest may hand over in one write.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// How a guest that prints too much is ended.
const TOO_MUCH: &str = "the response is too large";

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

    /// Whether the bytes were taken.
    fn print(&self, bytes: &[u8]) -> bool {
        self.with(|printed| {
            printed.over |= bytes.len() > printed.max.saturating_sub(printed.bytes.len());
            if !printed.over {
                printed.bytes.extend_from_slice(bytes);
            }
            !printed.over
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Printed) -> T) -> T {
        // Bytes are plain data: a panic leaves fewer of them at most.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        if self.print(&bytes) { Ok(()) } else { Err(StreamError::trap(TOO_MUCH)) }
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _ctx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(match self.print(bytes) {
            true => Ok(bytes.len()),
            false => Err(io::Error::other(TOO_MUCH)),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
