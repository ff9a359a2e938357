//! What a guest prints, line by line in the node's log under the plugin's name.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

/// A line longer than this is split; it bounds what waits for its end.
const LINE_BYTES_MAX: usize = 4096;
/// What a guest may hand over in one write.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Standard output or error of one instance; clones write to the same lines.
#[derive(Clone)]
pub(crate) struct Output {
    stream: Stream,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

struct Shared {
    plugin: Arc<str>,
    request_id: String,
    /// What may still be printed, over both streams.
    bytes_left: usize,
    /// The unfinished line of each stream.
    lines: [Vec<u8>; 2],
}

impl Output {
    /// Both streams of one instance, which share one allowance.
    pub(crate) fn pair(plugin: &Arc<str>, request_id: &str, bytes_max: usize) -> (Self, Self) {
        let shared = Arc::new(Mutex::new(Shared {
            plugin: Arc::clone(plugin),
            request_id: request_id.to_owned(),
            bytes_left: bytes_max,
            lines: [Vec::new(), Vec::new()],
        }));
        let stdout = Self { stream: Stream::Stdout, shared: Arc::clone(&shared) };
        (stdout, Self { stream: Stream::Stderr, shared })
    }

    fn print(&self, bytes: &[u8]) {
        // A line is plain data: one that a panic left half written is only a shorter line.
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.print(self.stream, bytes);
    }
}

impl Shared {
    fn print(&mut self, stream: Stream, bytes: &[u8]) {
        let kept = &bytes[..bytes.len().min(self.bytes_left)];
        self.bytes_left -= kept.len();
        for &byte in kept {
            if byte == b'\n' {
                self.end_line(stream);
                continue;
            }
            let line = &mut self.lines[stream as usize];
            line.push(byte);
            if line.len() == LINE_BYTES_MAX {
                self.end_line(stream);
            }
        }
        if kept.len() < bytes.len() {
            self.end_line(stream);
            let plugin = &*self.plugin;
            tracing::debug!(plugin, "printed more than one request may; the rest is dropped");
        }
    }

    fn end_line(&mut self, stream: Stream) {
        let line = std::mem::take(&mut self.lines[stream as usize]);
        if line.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        let (plugin, request_id) = (&*self.plugin, &*self.request_id);
        // Debug formatting escapes control characters: a guest cannot forge log lines.
        match stream {
            Stream::Stdout => tracing::info!(plugin, request_id, stdout = ?text),
            Stream::Stderr => tracing::info!(plugin, request_id, stderr = ?text),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end_line(Stream::Stdout);
        self.end_line(Stream::Stderr);
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
        self.print(&bytes);
        Ok(())
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
        self.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_allowance_is_dropped() {
        let (stdout, stderr) = Output::pair(&Arc::from("p"), "id", 10);
        stdout.print(b"12345678");
        stderr.print(b"abcd");
        stderr.print(b"more");
        let shared = stdout.shared.lock().unwrap();
        assert_eq!(shared.bytes_left, 0);
        assert_eq!(shared.lines[0], b"12345678");
        assert!(shared.lines[1].is_empty(), "the cut line was ended");
    }
}
