//! As much of HTTP/1.1 as it takes to see where an answer ends.

use std::time::Duration;

/// What a client of a load looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Answer {
    pub(in super::super) status: u16,
    /// Of the header of this name.
    pub(in super::super) retry_after: Option<Duration>,
    /// Whether the connection ends behind it.
    pub(in super::super) closes: bool,
}

impl Answer {
    /// The answer that `bytes` begin with, once all of it is there.
    pub(super) fn whole(bytes: &[u8]) -> Option<Self> {
        let end = find(bytes, b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let header = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(':'));
            fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        let body = &bytes[end + 4..];
        let whole = match header("content-length") {
            Some(length) => length.parse().is_ok_and(|length: usize| body.len() >= length),
            // In chunks. No JSON has an end of such a form in it.
            None => body.ends_with(b"0\r\n\r\n"),
        };
        let retry_after = header("retry-after").and_then(|value| value.parse().ok());
        let retry_after = retry_after.map(Duration::from_secs);
        let closes = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        whole.then_some(Self { status, retry_after, closes })
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_last_byte_is_there() {
        let busy = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 3\r\n\
                     Connection: close\r\n\r\nno!";
        for length in 0..busy.len() {
            assert_eq!(Answer::whole(&busy[..length]), None, "{length}");
        }
        let retry_after = Some(Duration::from_secs(2));
        assert_eq!(Answer::whole(busy), Some(Answer { status: 503, retry_after, closes: true }));
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n";
        for length in 0..chunked.len() {
            assert_eq!(Answer::whole(&chunked[..length]), None, "{length}");
        }
        let good = Answer { status: 200, retry_after: None, closes: false };
        assert_eq!(Answer::whole(chunked), Some(good));
    }
}
