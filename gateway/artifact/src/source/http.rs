//! The HTTP client: ranges, retries, timeouts.

use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use ureq::http::{Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::{FetchError, ShownUrl};
use crate::ByteSize;

/// Attempts at one request before it is given up.
pub(super) const ATTEMPTS: u32 = 5;

/// How long a connection may take, and how long a server may be silent.
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(super) struct Client(Agent);

/// Which bytes a response holds.
pub(super) struct Part {
    pub(super) body: Body,
    /// Where its first byte stands in the file.
    pub(super) start: u64,
    /// Bytes of the whole file, where the server tells.
    pub(super) total: Option<u64>,
    /// The server's name for this version of the file, or when it was changed.
    pub(super) version: Option<String>,
}

impl Client {
    pub(super) fn new() -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .user_agent(concat!("gw/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .build();
        Self(config.into())
    }

    /// The body of `url` as text, at most `limit` bytes.
    pub(super) fn text(&self, url: &str, accept: &str, limit: u64) -> Result<String, FetchError> {
        retried(url, || {
            let response = self.0.get(url).header(header::ACCEPT, accept).call();
            let mut response = answered(url, response)?;
            let body = response.body_mut().with_config().limit(limit);
            body.read_to_string().map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(_) => Failure::Final(FetchError::Malformed {
                    url: url.into(),
                    cause: format!("the answer is larger than {}", ByteSize(limit)),
                }),
                error => Failure::Transient(error.to_string()),
            })
        })
    }

    /// `url` from byte `start` to before `end`, or all of it where the server knows no ranges.
    pub(super) fn part(&self, url: &str, start: u64, end: Option<u64>) -> Result<Part, Failure> {
        let last = end.map_or_else(String::new, |end| (end - 1).to_string());
        let range = format!("bytes={start}-{last}");
        let request = self.0.get(url).header(header::RANGE, range);
        // A compressed transfer would count other bytes.
        let response = request.header(header::ACCEPT_ENCODING, "identity").call();
        let response = answered(url, response)?;
        let text = |name| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let version = text(header::ETAG).or_else(|| text(header::LAST_MODIFIED));
        let (start, total) = match response.status().as_u16() {
            206 => content_range(text(header::CONTENT_RANGE).as_deref()).ok_or_else(|| {
                Failure::Final(FetchError::Malformed {
                    url: url.into(),
                    cause: "a partial answer without a usable Content-Range".to_owned(),
                })
            })?,
            _ => (0, text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok())),
        };
        Ok(Part { body: response.into_body(), start, total, version })
    }
}

/// `bytes 10-19/100` starts at 10 of 100.
fn content_range(text: Option<&str>) -> Option<(u64, Option<u64>)> {
    let (range, total) = text?.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split('-').next()?.trim().parse().ok()?;
    Some((start, total.trim().parse().ok()))
}

/// Whether another attempt may help.
pub(super) enum Failure {
    Transient(String),
    Final(FetchError),
}

/// Calls `attempt` until it succeeds, fails for good, or has failed too often.
pub(super) fn retried<T>(
    url: &str,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, FetchError> {
    let mut failed = 0;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Transient(cause)) => {
                failed += 1;
                if failed == ATTEMPTS {
                    return Err(FetchError::Network { url: url.into(), cause });
                }
                let url = ShownUrl::from(url);
                tracing::debug!(%url, cause, failed, "a request failed; trying again");
                back_off(failed);
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a server that failed is left alone for a while")]
pub(super) fn back_off(failed: u32) {
    std::thread::sleep(Duration::from_millis(100) * 2u32.pow(failed));
}

fn answered(
    url: &str,
    response: Result<Response<Body>, ureq::Error>,
) -> Result<Response<Body>, Failure> {
    let malformed =
        |cause: String| Failure::Final(FetchError::Malformed { url: url.into(), cause });
    let response = response.map_err(|error| match error {
        // Its text would repeat the URL, secrets and all.
        ureq::Error::BadUri(_) => malformed("this is no URL that can be fetched".to_owned()),
        ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => malformed(error.to_string()),
        error => Failure::Transient(error.to_string()),
    })?;
    let status = response.status().as_u16();
    match status {
        200 | 206 => Ok(response),
        408 | 429 | 500..=599 => Err(Failure::Transient(format!("it answers {status}"))),
        _ => {
            let help = match status {
                401 | 403 => "the file needs an account, or may not be fetched from here",
                404 | 410 => "there is no such file; check the source",
                416 => "the file is shorter than what came of it before",
                _ => "an unexpected answer; check the source",
            };
            Err(Failure::Final(FetchError::Status { url: url.into(), status, help }))
        }
    }
}

/// A remote file as a reader that can seek: how a zip's directory is read without the zip.
pub(super) struct RangeReader<'c> {
    client: &'c Client,
    url: String,
    total: u64,
    position: u64,
    block: Vec<u8>,
    block_start: u64,
    /// How much more may be read.
    left: u64,
}

/// A directory of a wheel fits into few of these.
const BLOCK: u64 = 64 << 10;
/// The most that is read of one file. A zip's directory is kept in memory, and whoever made the
/// zip decides how long it is; one of a hundred thousand files takes some 10 MB.
const READ_BYTES_MAX: u64 = 64 << 20;

impl<'c> RangeReader<'c> {
    /// `None` where the server knows no ranges.
    pub(super) fn open(client: &'c Client, url: &str) -> Result<Option<Self>, FetchError> {
        let probe = retried(url, || client.part(url, 0, Some(1)))?;
        let is_ranged = probe.body.content_length() == Some(1);
        Ok(probe.total.filter(|_| is_ranged).map(|total| Self {
            client,
            url: url.to_owned(),
            total,
            position: 0,
            block: Vec::new(),
            block_start: 0,
            left: READ_BYTES_MAX,
        }))
    }

    fn fill(&mut self) -> Result<(), FetchError> {
        let start = self.position;
        let end = (start + BLOCK).min(self.total);
        let url = &self.url;
        self.left = self.left.checked_sub(end - start).ok_or_else(|| FetchError::Malformed {
            url: url.as_str().into(),
            cause: format!("its list of files is larger than {}", ByteSize(READ_BYTES_MAX)),
        })?;
        let block = retried(url, || {
            let part = self.client.part(url, start, Some(end))?;
            if part.start != start {
                return Err(Failure::Transient("it sent another part of the file".to_owned()));
            }
            let mut block = Vec::new();
            let mut reader = part.body.into_reader().take(end - start);
            let read = reader.read_to_end(&mut block);
            read.map_err(|error| Failure::Transient(error.to_string()))?;
            match block.len() as u64 == end - start {
                true => Ok(block),
                false => Err(Failure::Transient("the answer is cut short".to_owned())),
            }
        })?;
        (self.block, self.block_start) = (block, start);
        Ok(())
    }
}

impl Read for RangeReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.total || buffer.is_empty() {
            return Ok(0);
        }
        let held = self.block_start..self.block_start + self.block.len() as u64;
        if !held.contains(&self.position) {
            self.fill().map_err(io::Error::other)?;
        }
        let at = usize::try_from(self.position - self.block_start)
            .expect("a block is shorter than 64 KiB");
        let count = buffer.len().min(self.block.len() - at);
        buffer[..count].copy_from_slice(&self.block[at..at + count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for RangeReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.total.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a seek before the start")
        })?;
        Ok(self.position)
    }
}
