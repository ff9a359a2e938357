//! Bodies that end where they become larger than they may, or where nothing comes any more.

use std::error::Error as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

/// A body with a limit.
pub(super) struct Bounded<B> {
    body: B,
    max: usize,
    given: usize,
    /// The error of a body that is too large.
    too_large: fn(u64) -> Error,
    idle: Option<Idle>,
}

/// How long nothing may come.
struct Idle {
    time: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<B> Bounded<B> {
    /// What a guest sends.
    pub(super) fn request(body: B, max: usize) -> Self {
        let too_large = |max| Error::HttpRequestBodySize(Some(max));
        Self { body, max, given: 0, too_large, idle: None }
    }

    /// What a guest is sent.
    pub(super) fn response(body: B, max: usize, idle: Option<Duration>) -> Self {
        let too_large = |max| Error::HttpResponseBodySize(Some(max));
        let idle = idle.map(|time| Idle { time, timer: Box::pin(tokio::time::sleep(time)) });
        Self { body, max, given: 0, too_large, idle }
    }
}

impl<B: Body<Data = Bytes, Error: Into<Error>> + Unpin> Body for Bounded<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = match Pin::new(&mut this.body).poll_frame(ctx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let Some(idle) = &mut this.idle else { return Poll::Pending };
                ready!(idle.timer.as_mut().poll(ctx));
                return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
            }
        };
        if let Some(Idle { time, timer }) = &mut this.idle {
            timer.as_mut().reset(Instant::now() + *time);
        }
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(Into::into)?;
        this.given = this.given.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        if this.given > this.max {
            return Poll::Ready(Some(Err((this.too_large)(this.max as u64))));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a guest is told of a failed exchange.
pub(super) fn error_code(error: &hyper::Error) -> ErrorCode {
    // The body of a request ends with an error of ours, which comes back inside one of hyper's.
    match error.source().and_then(|cause| cause.downcast_ref::<Error>()) {
        Some(Error::HttpRequestBodySize(size)) => return ErrorCode::HttpRequestBodySize(*size),
        Some(_) => return ErrorCode::HttpProtocolError,
        None => {}
    }
    if error.is_timeout() {
        ErrorCode::HttpResponseTimeout
    } else if error.is_incomplete_message() {
        ErrorCode::HttpResponseIncomplete
    } else if error.is_parse_too_large() {
        ErrorCode::HttpResponseHeaderSectionSize(None)
    } else if error.is_closed() || error.is_canceled() {
        ErrorCode::ConnectionTerminated
    } else {
        ErrorCode::HttpProtocolError
    }
}
