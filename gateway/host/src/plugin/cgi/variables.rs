//! The request as the meta-variables of RFC 3875, section 4.1.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};

/// Never passed on. `HTTP_PROXY` is a setting of the program's own HTTP client in many libraries,
/// which a client of ours must not choose; the others are of one connection.
const LEFT_OUT: [&str; 9] = [
    "proxy",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Every variable of a request. `host` is whom the client asked.
pub(super) fn of(request: &Request<Bytes>, host: Option<&HeaderValue>) -> Vec<(String, String)> {
    let (uri, headers, length) = (request.uri(), request.headers(), request.body().len());
    let (server, port) = server(host);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let fixed = [
        ("GATEWAY_INTERFACE", "CGI/1.1".to_owned()),
        ("PATH_INFO", decoded(uri.path())),
        ("QUERY_STRING", uri.query().unwrap_or_default().to_owned()),
        ("REQUEST_METHOD", request.method().to_string()),
        ("REQUEST_URI", target.to_owned()),
        ("SCRIPT_NAME", String::new()),
        ("SERVER_NAME", server),
        ("SERVER_PORT", port),
        ("SERVER_PROTOCOL", protocol(request.version()).to_owned()),
        ("SERVER_SOFTWARE", concat!("gw/", env!("CARGO_PKG_VERSION")).to_owned()),
    ];
    let mut variables: Vec<_> =
        fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if length > 0 || headers.contains_key(CONTENT_LENGTH) {
        variables.push(("CONTENT_LENGTH".to_owned(), length.to_string()));
    }
    if let Some(kind) = headers.get(CONTENT_TYPE) {
        variables.push(("CONTENT_TYPE".to_owned(), text(kind)));
    }
    variables.extend(headers.keys().filter_map(|name| header(headers, name)));
    variables
}

/// `X-Trace: a` is `HTTP_X_TRACE=a`; lines of one name become one, as section 4.1.18 says.
fn header(headers: &HeaderMap, name: &HeaderName) -> Option<(String, String)> {
    let passed = name != CONTENT_TYPE && name != CONTENT_LENGTH;
    // `X_Trace` would become the same variable as `X-Trace`.
    if !passed || LEFT_OUT.contains(&name.as_str()) || name.as_str().contains('_') {
        return None;
    }
    let between = if name == COOKIE { "; " } else { ", " };
    let values: Vec<String> = headers.get_all(name).iter().map(text).collect();
    let name = name.as_str().to_uppercase().replace('-', "_");
    Some((format!("HTTP_{name}"), values.join(between)))
}

/// Environments are text; other bytes are marked as what they are not.
fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn server(host: Option<&HeaderValue>) -> (String, String) {
    let host = host.and_then(|host| host.to_str().ok());
    match host.and_then(|host| host.parse::<Authority>().ok()) {
        Some(authority) => {
            let port = authority.port_u16().unwrap_or(80);
            (authority.host().to_owned(), port.to_string())
        }
        None => ("localhost".to_owned(), "80".to_owned()),
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// A path without its `%` encoding; as it was sent where that would be no text.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|hex| byte == b'%' && hex.is_ascii());
        let hex = hex.and_then(|hex| str::from_utf8(hex).ok());
        let hex = hex.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    // An environment variable ends at a NUL.
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    text.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn variables(request: http::request::Builder, body: &'static str) -> BTreeMap<String, String> {
        let request = request.body(Bytes::from_static(body.as_bytes())).unwrap();
        let all = of(&request, request.headers().get("host"));
        let names = all.len();
        let map: BTreeMap<_, _> = all.into_iter().collect();
        assert_eq!(map.len(), names, "a name is given once");
        map
    }

    #[test]
    fn a_request_becomes_the_variables_of_the_rfc() {
        let request = http::Request::post("/a%20b/%C3%A9?x=%20y")
            .header("host", "api.example:8443")
            .header("content-type", "text/plain")
            .header("content-length", "99")
            .header("x-trace", "1")
            .header("x-trace", "2")
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let expected = [
            ("CONTENT_LENGTH", "3"),
            ("CONTENT_TYPE", "text/plain"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("HTTP_COOKIE", "a=1; b=2"),
            ("HTTP_HOST", "api.example:8443"),
            ("HTTP_X_TRACE", "1, 2"),
            ("PATH_INFO", "/a b/é"),
            ("QUERY_STRING", "x=%20y"),
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/a%20b/%C3%A9?x=%20y"),
            ("SCRIPT_NAME", ""),
            ("SERVER_NAME", "api.example"),
            ("SERVER_PORT", "8443"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_SOFTWARE", concat!("gw/", env!("CARGO_PKG_VERSION"))),
        ];
        let given = variables(request, "abc");
        let given: Vec<_> = given.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(given, expected);
    }

    #[test]
    fn headers_that_would_mislead_a_program_are_left_out() {
        let request = http::Request::get("/")
            .header("proxy", "http://evil.example")
            .header("x_trace", "forged")
            .header("x-trace", "real")
            .header("upgrade", "h2c")
            .header("x-bytes", HeaderValue::from_bytes(b"\xff").unwrap());
        let given = variables(request, "");
        assert!(!given.contains_key("HTTP_PROXY") && !given.contains_key("HTTP_UPGRADE"));
        assert!(!given.contains_key("CONTENT_LENGTH"));
        assert_eq!(given["HTTP_X_TRACE"], "real");
        assert_eq!(given["HTTP_X_BYTES"], "\u{fffd}");
        assert_eq!(given["SERVER_NAME"], "localhost");
    }

    #[test]
    fn a_path_that_is_no_text_stays_as_it_was_sent() {
        for path in ["/%00", "/%ff", "/%zz", "/100%", "/%4", "/%+1"] {
            assert_eq!(decoded(path), path);
        }
        assert_eq!(decoded("/%41%2f%25"), "/A/%");
    }
}
