//! How much may be in the node at once: requests, and the bytes of their bodies.

mod arriving;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use self::arriving::Arriving;
use crate::ServerConfig;
use crate::error::HandleError;

/// Bodies are counted in units of this many bytes, because permits are 32-bit numbers.
const UNIT: u64 = 1024;

/// The limits, and what is left of them.
pub(crate) struct Admission {
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    body_bytes_max: u64,
    body_timeout: Duration,
}

/// A body in memory; it counts until `counted` is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) body: Bytes,
    pub(crate) counted: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        let units = usize::try_from(config.bodies_bytes_max.0 / UNIT).unwrap_or(usize::MAX);
        Self {
            requests: Arc::new(Semaphore::new(config.requests_max.min(Semaphore::MAX_PERMITS))),
            bodies: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            body_bytes_max: config.body_bytes_max.0,
            body_timeout: config.body_timeout,
        }
    }

    /// A place for one request.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, HandleError> {
        let permit = Arc::clone(&self.requests).try_acquire_owned();
        permit.map_err(|_| HandleError::Saturated { what: "requests_max" })
    }

    /// Reads a whole body within the limits.
    pub(crate) async fn read<B>(&self, mut body: B) -> Result<Admitted, HandleError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Display,
    {
        let limit = self.body_bytes_max;
        if body.size_hint().lower() > limit {
            return Err(HandleError::BodyTooLarge { limit });
        }
        let late = HandleError::BodyTimeout { limit: self.body_timeout };
        timeout(self.body_timeout, self.collect(&mut body)).await.unwrap_or(Err(late))
    }

    /// Passes a body on as it arrives, within the limits; then what is wrong with it comes out of
    /// the receiver, until the body is dropped. It is not held in memory, so it does not count.
    pub(crate) fn stream<B>(
        &self,
        body: B,
    ) -> Result<(gw_host::Body, oneshot::Receiver<HandleError>), HandleError>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Display,
    {
        let limit = self.body_bytes_max;
        if body.size_hint().lower() > limit {
            return Err(HandleError::BodyTooLarge { limit });
        }
        let (flaw, flawed) = oneshot::channel();
        if body.is_end_stream() {
            return Ok((gw_host::Body::default(), flawed));
        }
        let arriving = Arriving::new(body, limit, self.body_timeout, flaw);
        Ok((gw_host::Body::stream(arriving), flawed))
    }

    async fn collect<B>(&self, body: &mut B) -> Result<Admitted, HandleError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Display,
    {
        let limit = self.body_bytes_max;
        let mut permit: Option<OwnedSemaphorePermit> = None;
        let (mut first, mut rest, mut bytes) = (Bytes::new(), BytesMut::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| HandleError::BadRequest {
                field: "body",
                reason: format!("the request body broke off: {error}"),
            })?;
            let Ok(data) = frame.into_data() else { continue };
            bytes += data.len() as u64;
            if bytes > limit {
                return Err(HandleError::BodyTooLarge { limit });
            }
            self.account(bytes, &mut permit)?;
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
        let body = if rest.is_empty() { first } else { rest.freeze() };
        Ok(Admitted { body, counted: permit })
    }

    /// Raises the permit to `bytes`.
    fn account(
        &self,
        bytes: u64,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<(), HandleError> {
        let held = permit.as_ref().map_or(0, |permit| permit.num_permits() as u64);
        let Some(more) = bytes.div_ceil(UNIT).checked_sub(held).filter(|more| *more > 0) else {
            return Ok(());
        };
        let saturated = HandleError::Saturated { what: "bodies_bytes_max" };
        let Ok(more) = u32::try_from(more) else { return Err(saturated) };
        match (Arc::clone(&self.bodies).try_acquire_many_owned(more), permit) {
            (Err(_), _) => Err(saturated),
            (Ok(more), Some(permit)) => {
                permit.merge(more);
                Ok(())
            }
            (Ok(more), permit @ None) => {
                *permit = Some(more);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt, stream};
    use gw_artifact::ByteSize;
    use http_body::Frame;
    use http_body_util::{Empty, StreamBody};

    use super::*;

    fn admission(change: impl FnOnce(&mut ServerConfig)) -> Admission {
        let mut config = ServerConfig { body_bytes_max: ByteSize(4000), ..Default::default() };
        change(&mut config);
        Admission::new(&config)
    }

    /// A body of unknown length, in pieces.
    fn pieces(sizes: &'static [usize]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames =
            stream::iter(sizes).map(|size| Ok(Frame::data(Bytes::from(vec![b'x'; *size]))));
        StreamBody::new(frames)
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_put_together() {
        let admission = admission(|_| {});
        let admitted = admission.read(pieces(&[0, 1000, 0, 2000, 1000])).await;
        assert_eq!(admitted.unwrap().body.len(), 4000);
        let empty = admission.read(Empty::new()).await;
        assert!(empty.unwrap().body.is_empty());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_wherever_it_shows() {
        let admission = admission(|_| {});
        let error = admission.read(pieces(&[3000, 1001])).await.unwrap_err();
        assert!(matches!(error, HandleError::BodyTooLarge { limit: 4000 }));
        let declared = http_body_util::Full::new(Bytes::from(vec![0; 4001]));
        let error = admission.read(declared).await.unwrap_err();
        assert!(matches!(error, HandleError::BodyTooLarge { limit: 4000 }));
    }

    #[tokio::test]
    async fn all_bodies_together_have_a_limit_and_count_while_they_are_held() {
        let admission = admission(|config| config.bodies_bytes_max = ByteSize(3 * UNIT));
        let first = admission.read(pieces(&[1000, 1000])).await.unwrap();
        let error = admission.read(pieces(&[1000, 1000])).await.unwrap_err();
        assert!(matches!(error, HandleError::Saturated { what: "bodies_bytes_max" }));
        drop(first);
        assert!(admission.read(pieces(&[1000, 1000])).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let admission = admission(|_| {});
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let error = admission.read(body).await.unwrap_err();
        assert!(matches!(error, HandleError::BodyTimeout { .. }));
    }

    #[tokio::test]
    async fn a_streamed_body_that_grows_too_large_is_told_to_both_ends() {
        let admission = admission(|_| {});
        let (body, flawed) = admission.stream(pieces(&[3000, 1000])).unwrap();
        assert_eq!(body.collect(usize::MAX).await.unwrap().len(), 4000);
        assert!(flawed.await.is_err(), "there was no flaw");
        let (body, flawed) = admission.stream(pieces(&[3000, 1001])).unwrap();
        assert!(body.collect(usize::MAX).await.is_err());
        assert!(matches!(flawed.await, Ok(HandleError::BodyTooLarge { limit: 4000 })));
        let declared = http_body_util::Full::new(Bytes::from(vec![0; 4001]));
        let refused = admission.stream(declared).map(drop).unwrap_err();
        assert!(matches!(refused, HandleError::BodyTooLarge { limit: 4000 }));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_time_that_a_client_keeps_its_reader_waiting_counts() {
        let admission = admission(|config| config.body_timeout = Duration::from_secs(10));
        let second = |size| async move {
            tokio::time::sleep(Duration::from_secs(4)).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; size])))
        };
        let body =
            |frames: Vec<usize>| StreamBody::new(Box::pin(stream::iter(frames).then(second)));
        let (mut patient, flawed) = admission.stream(body(vec![1, 1])).unwrap();
        assert!(patient.frame().await.unwrap().is_ok());
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(patient.frame().await.unwrap().is_ok());
        assert!(patient.frame().await.is_none());
        drop(patient);
        assert!(flawed.await.is_err(), "the reader was slow, not the client");
        let (slow, flawed) = admission.stream(body(vec![1; 9])).unwrap();
        assert!(slow.collect(usize::MAX).await.is_err());
        assert!(matches!(flawed.await, Ok(HandleError::BodyTimeout { .. })));
    }

    #[tokio::test]
    async fn one_request_more_than_allowed_is_told_to_come_back() {
        let admission = admission(|config| config.requests_max = 1);
        let first = admission.enter().unwrap();
        assert!(matches!(admission.enter(), Err(HandleError::Saturated { what: "requests_max" })));
        drop(first);
        assert!(admission.enter().is_ok());
    }
}
