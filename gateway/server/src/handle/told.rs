//! The body of an answer on its way to the client, with the last line of its request.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_host::{Body, BodyError};
use http_body::{Frame, SizeHint};

use crate::error::{chain, guest_code};
use crate::handle::access::{Access, Cut};
use crate::handle::call::log;

/// A body that ends the request's line in the access log when it ends, in whatever way.
pub(crate) struct Told {
    body: Body,
    access: Access,
}

impl Told {
    /// The head is on its way, and `body` follows it.
    pub(crate) fn new(body: Body, mut access: Access) -> Self {
        access.cut = Some(Cut::Client);
        Self { body, access }
    }
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(ctx);
        let access = &mut self.access;
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                access.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                // Nothing comes after trailers, so nobody asks for more.
                if frame.is_trailers() {
                    access.whole();
                }
            }
            Poll::Ready(Some(Err(error))) => {
                access.cut = Some(Cut::Plugin);
                match error {
                    BodyError::Guest(error) => {
                        access.code = Some(guest_code(error));
                        if let Some(plugins) = &access.plugins {
                            log(error, &access.id, &access.app, plugins);
                        }
                    }
                    other => tracing::warn!(id = access.id, reason = chain(other), "answer cut"),
                }
            }
            Poll::Ready(None) => access.whole(),
        }
        // Whoever sends a body of known length stops at its last byte.
        if self.body.is_end_stream() {
            self.access.whole();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
