//! The body of a response while its guest may still be writing it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use tokio::task::JoinHandle;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::Guest;
use crate::chain::Trip;
use crate::plugin::visit::Left;
use crate::{Body, BodyError, GuestError, Plugin, Timings};

/// What a guest may write before its head is sent, in bytes: most answers are shorter, and are sent
/// whole, with their length.
const PROMPT_BYTES_MAX: usize = 256 << 10;

/// Frames of a guest, within the limits. The last of them waits for the guest's own end, since a
/// guest that trapped has given no whole response. Dropping it ends the guest.
pub(super) struct Live {
    trip: Arc<Trip>,
    plugin: Arc<Plugin>,
    frames: HyperOutgoingBody,
    /// What was written before anybody asked for it.
    early: VecDeque<Written>,
    task: Option<Task>,
    /// The length in the head.
    declared: Option<u64>,
    given: u64,
    bytes_max: u64,
    last: Last,
    timings: Timings,
}

type Written = Result<Frame<Bytes>, wasmtime_wasi_http::Error>;

/// Where the end of a body is.
enum Last {
    /// Not here yet.
    Ahead,
    /// Here, as soon as the guest has ended; with the frame that comes then.
    Waits(Option<Frame<Bytes>>),
    /// Behind.
    Over,
}

/// A guest in a task that ends with its owner.
struct Task(JoinHandle<Result<Left, GuestError>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Live {
    /// # Errors
    /// [`GuestError::BadResponse`] where the head declares more than is allowed.
    pub(super) fn new(
        trip: &Arc<Trip>,
        plugin: &Arc<Plugin>,
        headers: &HeaderMap,
        frames: HyperOutgoingBody,
        timings: Timings,
    ) -> Result<Self, Box<GuestError>> {
        let declared = headers.get(CONTENT_LENGTH).map(HeaderValue::to_str);
        // WASI has checked that it is a number.
        let declared = declared.and_then(|text| text.ok()?.parse().ok());
        let live = Self {
            trip: Arc::clone(trip),
            plugin: Arc::clone(plugin),
            frames,
            early: VecDeque::new(),
            task: None,
            declared,
            given: 0,
            bytes_max: plugin.config.response_bytes_max as u64,
            last: Last::Ahead,
            timings,
        };
        if declared.is_some_and(|declared| declared > live.bytes_max) {
            return Err(live.too_long());
        }
        Ok(live)
    }

    /// Lets the guest write for as long as it waits for nobody but its reader, and says how it
    /// ended, where it did.
    pub(super) async fn prompt(&mut self, guest: &mut Guest) -> Option<Result<Left, GuestError>> {
        let mut bytes = 0;
        poll_fn(|ctx| {
            loop {
                if let Poll::Ready(ended) = guest.poll_unpin(ctx) {
                    return Poll::Ready(Some(ended));
                }
                if bytes > PROMPT_BYTES_MAX {
                    return Poll::Ready(None);
                }
                let Poll::Ready(Some(written)) = Pin::new(&mut self.frames).poll_frame(ctx) else {
                    return Poll::Ready(None);
                };
                let data = written.as_ref().ok().and_then(Frame::data_ref);
                bytes += data.map_or(0, Bytes::len);
                self.early.push_back(written);
            }
        })
        .await
    }

    fn poll_written(&mut self, ctx: &mut Context<'_>) -> Poll<Option<Written>> {
        match self.early.pop_front() {
            Some(written) => Poll::Ready(Some(written)),
            None => Pin::new(&mut self.frames).poll_frame(ctx),
        }
    }

    /// Lets the guest go on in a task of its own, and gives the body that it writes.
    pub(super) fn attended(mut self, guest: Guest) -> Body {
        self.task = Some(Task(tokio::spawn(guest)));
        Body::stream(self)
    }

    /// All of it, of a guest that has ended.
    pub(super) async fn gather(mut self) -> Result<Body, GuestError> {
        let (mut first, mut rest, mut trailers) = (Bytes::new(), BytesMut::new(), None);
        while let Some(frame) = self.frame().await {
            let frame = frame.map_err(|error| match error {
                BodyError::Guest(error) => *error,
                other => *self.unusable(other.to_string()),
            })?;
            match frame.into_data() {
                Ok(data) if first.is_empty() => first = data,
                Ok(data) => {
                    if rest.is_empty() {
                        rest.extend_from_slice(&first);
                    }
                    rest.extend_from_slice(&data);
                }
                Err(frame) => trailers = Some(frame),
            }
        }
        let data = if rest.is_empty() { first } else { rest.freeze() };
        Ok(match trailers {
            None => Body::whole(data),
            Some(trailers) => {
                let frames = [Ok(Frame::data(data)), Ok(trailers)];
                Body::stream(StreamBody::new(futures::stream::iter(frames)))
            }
        })
    }

    fn unusable(&self, reason: String) -> Box<GuestError> {
        let (plugin, timings) = (self.plugin.name.clone(), self.timings.clone());
        Box::new(GuestError::BadResponse { plugin, reason, timings })
    }

    fn too_long(&self) -> Box<GuestError> {
        self.unusable(format!("its body has more than {} bytes", self.bytes_max))
    }

    /// What a frame of data is: on time, the last, or too much.
    fn admit(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, Box<GuestError>> {
        let Some(data) = frame.data_ref() else {
            self.last = Last::Waits(Some(frame));
            return Ok(None);
        };
        self.given += data.len() as u64;
        if self.given > self.bytes_max {
            return Err(self.too_long());
        }
        match self.declared {
            Some(declared) if self.given > declared => Err(self.not_declared()),
            // Whoever sends it stops reading here.
            Some(declared) if self.given == declared && declared > 0 => {
                self.last = Last::Waits(Some(frame));
                Ok(None)
            }
            _ => Ok(Some(frame)),
        }
    }

    fn not_declared(&self) -> Box<GuestError> {
        self.unusable(format!("its body of {} bytes is not the declared one", self.given))
    }

    /// How the guest ended; at once where it had when this was made.
    fn poll_guest(&mut self, ctx: &mut Context<'_>) -> Poll<Result<(), Box<GuestError>>> {
        let Some(Task(task)) = &mut self.task else { return Poll::Ready(Ok(())) };
        let ended = ready!(task.poll_unpin(ctx));
        Poll::Ready(match ended {
            Ok(Ok(left)) => {
                self.trip.trail.ended(&self.timings, left);
                Ok(())
            }
            Ok(Err(error)) => Err(Box::new(error)),
            Err(error) => Err(self.unusable(format!("its task failed: {error}"))),
        })
    }

    fn fail(&mut self, error: Box<GuestError>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.settle(Some(&error));
        Poll::Ready(Some(Err(BodyError::Guest(error))))
    }

    fn settle(&mut self, error: Option<&GuestError>) {
        self.last = Last::Over;
        if self.task.take().is_some() {
            self.trip.ended(&self.plugin, error);
        }
    }
}

impl http_body::Body for Live {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match &mut self.last {
                Last::Over => return Poll::Ready(None),
                Last::Waits(_) => {
                    if let Err(error) = ready!(self.poll_guest(ctx)) {
                        return self.fail(error);
                    }
                    let Last::Waits(frame) = std::mem::replace(&mut self.last, Last::Over) else {
                        return Poll::Ready(None);
                    };
                    if self.declared.is_some_and(|declared| declared != self.given) {
                        let error = self.not_declared();
                        return self.fail(error);
                    }
                    self.settle(None);
                    return Poll::Ready(frame.map(Ok));
                }
                Last::Ahead => match ready!(self.poll_written(ctx)) {
                    Some(Ok(frame)) => match self.admit(frame) {
                        Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                        Ok(None) => {}
                        Err(error) => return self.fail(error),
                    },
                    Some(Err(_)) => {
                        let error = self.unusable("its body ended early".to_owned());
                        return self.fail(error);
                    }
                    None => self.last = Last::Waits(None),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.last, Last::Over)
    }
}
