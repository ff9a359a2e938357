//! Bodies of requests and responses: whole in memory, or on their way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

use crate::GuestError;

/// A body. Reading it drives nothing but what it waits for; dropping it ends whoever writes it.
pub struct Body(Inner);

enum Inner {
    Whole(Full<Bytes>, Bytes),
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

/// Why a body ends before its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BodyError {
    /// The plugin that writes it failed.
    #[error(transparent)]
    Guest(Box<GuestError>),
    /// It is longer than allowed.
    #[error("the body has more than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// Whoever sends it stopped, or was refused.
    #[error("the body broke off")]
    Broken(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl Body {
    /// A body that is in memory.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(Inner::Whole(Full::new(bytes.clone()), bytes))
    }

    /// A body that is read as it comes.
    pub fn stream(
        body: impl http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static,
    ) -> Self {
        Self(Inner::Stream(body.boxed_unsync()))
    }

    /// All of it, where it is in memory.
    pub fn as_whole(&self) -> Option<&Bytes> {
        match &self.0 {
            Inner::Whole(_, bytes) => Some(bytes),
            Inner::Stream(_) => None,
        }
    }

    /// Reads it to its end; trailers are dropped.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] for more than `bytes_max` bytes, and what ends the body early.
    pub async fn collect(self, bytes_max: usize) -> Result<Bytes, BodyError> {
        let limit = bytes_max as u64;
        let mut body = match self.0 {
            Inner::Whole(_, bytes) if bytes.len() <= bytes_max => return Ok(bytes),
            Inner::Whole(..) => return Err(BodyError::TooLarge { limit }),
            Inner::Stream(body) => body,
        };
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if first.len().max(rest.len()) + data.len() > bytes_max {
                return Err(BodyError::TooLarge { limit });
            }
            // Most bodies come in one piece, which needs no copy.
            if first.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::whole(Bytes::new())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Inner::Whole(body, _) => {
                Pin::new(body).poll_frame(ctx).map_err(|infallible| match infallible {})
            }
            Inner::Stream(body) => Pin::new(body).poll_frame(ctx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(body, _) => body.is_end_stream(),
            Inner::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(body, _) => body.size_hint(),
            Inner::Stream(body) => body.size_hint(),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.as_whole() {
            Some(bytes) => write!(f, "{} bytes", bytes.len()),
            None => f.write_str("on its way"),
        }
    }
}
