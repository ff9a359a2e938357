//! Standard output and error of a guest: whatever takes what it prints, as the streams of WASI.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

/// What a guest may hand over in one write.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Takes what a guest prints, at once; clones take it to the same place.
pub(crate) trait Sink: Clone + Send + Sync + Unpin + 'static {
    /// Takes it, or says why the guest is ended.
    fn accept(&self, bytes: &[u8]) -> Result<(), &'static str>;
}

/// The stream of a sink, which is always ready and no terminal.
#[derive(Clone)]
pub(crate) struct Printed<S>(pub(crate) S);

impl<S: Sink> IsTerminal for Printed<S> {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl<S: Sink> StdoutStream for Printed<S> {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl<S: Sink> Pollable for Printed<S> {
    async fn ready(&mut self) {}
}

impl<S: Sink> OutputStream for Printed<S> {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.0.accept(&bytes).map_err(StreamError::trap)
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl<S: Sink> AsyncWrite for Printed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        _ctx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.accept(bytes).map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
