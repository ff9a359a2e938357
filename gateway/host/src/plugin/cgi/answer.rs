//! What a module printed, read as the response of RFC 3875, section 6.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{Response, StatusCode};

use crate::config::HEADER_BYTES;

/// What every message about a malformed response ends with.
const FIX: &str = "print header lines such as `Content-Type: text/plain`, an empty line, then the \
                   body; what is meant for people goes to standard error";
/// Of the connection, which is the server's.
const SERVERS: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads a response whose body has at most `bytes_max` bytes, or says what is wrong with it.
pub(super) fn read(printed: &Bytes, bytes_max: usize) -> Result<Response<Bytes>, String> {
    let mut response = Response::new(Bytes::new());
    let mut rest = &printed[..];
    let mut status = None;
    loop {
        let consumed = printed.len() - rest.len();
        let end = rest.iter().position(|&byte| byte == b'\n');
        let Some(end) = end.filter(|end| consumed + end <= HEADER_BYTES) else {
            return Err(unfinished(printed));
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        if line.is_empty() {
            break;
        }
        let (name, value) = field(line)?;
        if name == "status" {
            status = Some(status_of(&value)?);
        } else if SERVERS.contains(&name.as_str()) {
            return Err(format!("it sets {name}, which is the server's to set: leave it out"));
        } else {
            let added = response.headers_mut().try_append(name, value);
            added.map_err(|_| "it has too many headers".to_owned())?;
        }
    }
    let body = printed.slice(printed.len() - rest.len()..);
    check(&response, status, &body, bytes_max)?;
    let found = response.headers().contains_key(LOCATION).then_some(StatusCode::FOUND);
    *response.status_mut() = status.or(found).unwrap_or(StatusCode::OK);
    *response.body_mut() = body;
    Ok(response)
}

fn unfinished(printed: &[u8]) -> String {
    if printed.is_empty() {
        return format!("it printed nothing: {FIX}");
    }
    if printed.len() > HEADER_BYTES {
        return format!("its headers do not end within {HEADER_BYTES} bytes: {FIX}");
    }
    format!("its headers do not end: {FIX}")
}

/// One line, `Name: value`.
fn field(line: &[u8]) -> Result<(HeaderName, HeaderValue), String> {
    let malformed = || format!("its line {:?} is no header: {FIX}", shown(line));
    let colon = line.iter().position(|&byte| byte == b':').ok_or_else(malformed)?;
    let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| malformed())?;
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
    Ok((name, value.map_err(|_| malformed())?))
}

/// What a message repeats of a line.
fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned()
}

/// `404 Not Found`; the words are for people.
fn status_of(value: &HeaderValue) -> Result<StatusCode, String> {
    let digits = value.as_bytes().split(|&byte| byte == b' ').next().unwrap_or_default();
    let status = StatusCode::from_bytes(digits).ok();
    status.filter(|status| (200..600).contains(&status.as_u16())).ok_or_else(|| {
        let given = shown(value.as_bytes());
        format!("its status {given:?} is none: print a line such as `Status: 404 Not Found`")
    })
}

fn check(
    response: &Response<Bytes>,
    status: Option<StatusCode>,
    body: &Bytes,
    bytes_max: usize,
) -> Result<(), String> {
    let headers = response.headers();
    if body.len() > bytes_max {
        return Err(format!("its body has more than {bytes_max} bytes"));
    }
    let named = headers.contains_key(CONTENT_TYPE);
    if !body.is_empty() && !named {
        return Err(format!("its body has no Content-Type: {FIX}"));
    }
    if !named && status.is_none() && !headers.contains_key(LOCATION) {
        return Err(format!("it has neither Content-Type, nor Location, nor Status: {FIX}"));
    }
    let declared = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    if declared.is_some_and(|length| length != body.len().to_string().as_bytes()) {
        return Err(format!("its body of {} bytes is not the declared one", body.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(printed: &'static str) -> Result<Response<Bytes>, String> {
        read(&Bytes::from_static(printed.as_bytes()), 20)
    }

    #[test]
    fn a_response_is_read_as_it_was_printed() {
        struct Case(&'static str, u16, &'static str);
        let cases = [
            Case("Content-Type: text/plain\n\nhi\n", 200, "hi\n"),
            Case("content-type:text/plain\r\nX-A: 1\r\n\r\n\r\nhi", 200, "\r\nhi"),
            Case("Status: 404 Not Found\nContent-Type: text/plain\n\nno", 404, "no"),
            Case("Status: 204\n\n", 204, ""),
            Case("Location: https://example.org/\n\n", 302, ""),
            Case("Location: /x\nStatus: 301 Moved\n\n", 301, ""),
            Case("Content-Length: 2\nContent-Type: text/plain\n\nhi", 200, "hi"),
        ];
        for Case(printed, status, body) in cases {
            let response = answer(printed).unwrap_or_else(|error| panic!("{printed:?}: {error}"));
            assert_eq!(response.status().as_u16(), status, "{printed:?}");
            assert_eq!(response.body(), body, "{printed:?}");
            assert!(!response.headers().contains_key("status"), "{printed:?}");
        }
        let cookies = answer("Set-Cookie: a=1\nSet-Cookie: b=2\nContent-Type: a/b\n\n").unwrap();
        assert_eq!(cookies.headers().get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn a_malformed_response_is_refused_with_the_fix() {
        let cases = [
            ("", "printed nothing"),
            ("hello", "do not end"),
            ("hello\n\n", "\"hello\" is no header"),
            ("Content-Type: text/plain\n", "do not end"),
            ("A B: c\n\n", "\"A B: c\" is no header"),
            ("A: \u{1}\n\n", "is no header"),
            ("X-A: 1\n\n", "neither Content-Type"),
            ("Status: 200\n\nhi", "no Content-Type"),
            ("Status: 99\n\n", "Status: 404"),
            ("Status: 101\n\n", "Status: 404"),
            ("Status: ok\n\n", "Status: 404"),
            ("Status: 2000\n\n", "Status: 404"),
            ("Transfer-Encoding: chunked\n\n", "leave it out"),
            ("Content-Type: a/b\nContent-Length: 3\n\nhi", "not the declared one"),
            ("Content-Type: a/b\n\n123456789012345678901", "more than 20 bytes"),
        ];
        for (printed, expected) in cases {
            let error = answer(printed).expect_err(printed);
            assert!(error.contains(expected), "{printed:?}: {error}");
        }
        let endless = Bytes::from("A: b\n".repeat(HEADER_BYTES));
        assert!(read(&endless, 20).unwrap_err().contains("do not end within"));
    }
}
