//! What an answer left unread of its request's body.
//!
//! A refusal needs no body, but the next request of the connection comes after it, and a client
//! that is still sending would not see the answer: its connection is reset. So the rest is read
//! within bounds, whoever answered, and beyond them the answer says that the connection ends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

/// How much of an unread body is read all the same.
const UNREAD_BYTES_MAX: u64 = 64 << 20;
/// How long that may take.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(5);

/// The body as the routes see it; they may drop it unread.
pub(super) struct Lent(Slot);

/// Empty once the body was read to its end.
type Slot = Arc<Mutex<Option<Incoming>>>;

/// What is known of a request whose body is lent, until its answer is ready.
pub(super) struct Unread {
    slot: Slot,
    version: Version,
    expects: bool,
}

/// Lends the body of `request` to whoever answers it.
pub(super) fn lend(request: Request<Incoming>) -> (Request<Lent>, Unread) {
    let (version, expects) = (request.version(), request.headers().contains_key(EXPECT));
    let (head, body) = request.into_parts();
    let slot = Arc::new(Mutex::new(Some(body)));
    let unread = Unread { slot: Arc::clone(&slot), version, expects };
    (Request::from_parts(head, Lent(slot)), unread)
}

impl Unread {
    /// Reads the rest before `response` is sent, or marks it as the connection's last. A body that
    /// is still being read, while its answer is on its way already, is left to its reader.
    pub(super) async fn settle(self, mut response: Response) -> Response {
        let slot = Arc::into_inner(self.slot);
        let rest = slot.and_then(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
        let Some(rest) = rest.filter(|rest| !rest.is_end_stream()) else { return response };
        // A client that waits for `100 Continue` has sent nothing, and reading would invite it;
        // one that was too slow had its time.
        let wanted = !self.expects && response.status() != StatusCode::REQUEST_TIMEOUT;
        let ended = wanted && discard(rest).await;
        // HTTP/2 ends the stream and not the connection, and knows no such header.
        if !ended && self.version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Reads `body` within the bounds; says whether that was all of it.
async fn discard(mut body: Incoming) -> bool {
    if body.size_hint().lower() > UNREAD_BYTES_MAX {
        return false;
    }
    let reading = async {
        let mut bytes = 0;
        while bytes <= UNREAD_BYTES_MAX {
            match body.frame().await {
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
                Some(Err(_)) => return false,
                None => return true,
            }
        }
        false
    };
    timeout(UNREAD_TIME_MAX, reading).await.unwrap_or(false)
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut slot = lock(&self.0);
        let Some(body) = slot.as_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if frame.is_none() {
            *slot = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// A panic on the way leaves the body as it was.
fn lock(slot: &Mutex<Option<Incoming>>) -> MutexGuard<'_, Option<Incoming>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
