//! A request's body as it arrives, within the limits.

use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gw_host::BodyError;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

use crate::error::HandleError;

/// Passes frames on. Of what breaks a limit the reader hears as of a body that broke off, and
/// whoever holds the other end of `flaw` hears what it was.
pub(super) struct Arriving<B> {
    body: B,
    bytes: u64,
    bytes_max: u64,
    timeout: Duration,
    /// How long the client may still keep the reader waiting.
    patience: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    flaw: Option<oneshot::Sender<HandleError>>,
}

impl<B> Arriving<B> {
    pub(super) fn new(
        body: B,
        bytes_max: u64,
        timeout: Duration,
        flaw: oneshot::Sender<HandleError>,
    ) -> Self {
        let (bytes, waiting) = (0, None);
        Self { body, bytes, bytes_max, timeout, patience: timeout, waiting, flaw: Some(flaw) }
    }

    fn broken(&mut self, flaw: HandleError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let error = match &flaw {
            HandleError::BodyTooLarge { limit } => BodyError::TooLarge { limit: *limit },
            other => BodyError::Broken(Arc::new(io::Error::other(other.to_string()))),
        };
        if let Some(told) = self.flaw.take() {
            // Nobody listens once the head of the answer is sent.
            let _ = told.send(flaw);
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl<B> Body for Arriving<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Poll::Ready(polled) = Pin::new(&mut this.body).poll_frame(ctx) else {
            let patience = this.patience;
            let (_, timer) =
                this.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
            return match timer.as_mut().poll(ctx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => this.broken(HandleError::BodyTimeout { limit: this.timeout }),
            };
        };
        if let Some((since, _)) = this.waiting.take() {
            this.patience = this.patience.saturating_sub(since.elapsed());
        }
        match polled {
            None => Poll::Ready(None),
            Some(Ok(frame)) => {
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if this.bytes > this.bytes_max {
                    return this.broken(HandleError::BodyTooLarge { limit: this.bytes_max });
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => this.broken(HandleError::BadRequest {
                field: "body",
                reason: format!("the request body broke off: {error}"),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
