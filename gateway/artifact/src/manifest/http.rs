//! A grant of outbound HTTP: a scheme, a host or all hosts below a domain, a port.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// One entry of `http`: where a plugin may send requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGrant {
    secure: bool,
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// This one, in the form of [`canonical_host`].
    Exact(String),
    /// Every name below this domain, and not the domain itself.
    Below(String),
}

impl HttpGrant {
    /// Whether a request there is granted. `host` is in the form of [`canonical_host`].
    pub fn allows(&self, secure: bool, host: &str, port: u16) -> bool {
        let host_allowed = match &self.host {
            Host::Exact(granted) => granted == host,
            Host::Below(domain) => host
                .strip_suffix(domain.as_str())
                .and_then(|below| below.strip_suffix('.'))
                .is_some_and(|below| !below.is_empty()),
        };
        host_allowed && self.secure == secure && self.port == port
    }
}

/// The one spelling of a host: an address as the system prints it, IPv6 without its brackets, or
/// a name in lower case. None for what is neither, numbers that only look like names included.
pub fn canonical_host(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(address.to_string());
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(address.to_string());
    }
    let name = text.to_ascii_lowercase();
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Resolvers read `127.1`, `2130706433` and `0x7f000001` as addresses.
    let number = |last: &str| last.bytes().next().is_some_and(|first| first.is_ascii_digit());
    let last = name.rsplit('.').next().unwrap_or_default();
    (name.len() <= 253 && name.split('.').all(label) && !number(last)).then_some(name)
}

impl FromStr for HttpGrant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (secure, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err("it starts with https:// or http://".to_owned()),
        };
        if rest.contains(['/', '?', '#', '@']) {
            return Err("it ends with the host and its port, without a path or a user".to_owned());
        }
        // The colons of an IPv6 address are inside its brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let port = match port {
            None => default_port(secure),
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(format!("`{port}` is no port")),
            },
        };
        let no_host = |host: &str| {
            format!("`{host}` is no host name or address; write other alphabets as xn--…")
        };
        let host = match host.strip_prefix("*.") {
            None if host.contains('*') => {
                return Err("`*.` stands before a domain, for all names below it".to_owned());
            }
            None => Host::Exact(canonical_host(host).ok_or_else(|| no_host(host))?),
            Some(domain) => {
                let name = canonical_host(domain).ok_or_else(|| no_host(domain))?;
                if !name.contains('.') || name.parse::<Ipv4Addr>().is_ok() || name.contains(':') {
                    return Err(format!("`*.{domain}` is too wide: name a domain such as a.com"));
                }
                Host::Below(name)
            }
        };
        Ok(Self { secure, host, port })
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// As in the manifest, without the port that the scheme has by itself.
impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "https://" } else { "http://" })?;
        match &self.host {
            Host::Exact(host) if host.contains(':') => write!(f, "[{host}]")?,
            Host::Exact(host) => f.write_str(host)?,
            Host::Below(domain) => write!(f, "*.{domain}")?,
        }
        if self.port == default_port(self.secure) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_allows_its_scheme_its_hosts_and_its_port() {
        struct Case(
            &'static str,
            &'static [(bool, &'static str, u16)],
            &'static [(bool, &'static str, u16)],
        );
        let cases = [
            Case(
                "https://API.example.com",
                &[(true, "api.example.com", 443)],
                &[
                    (false, "api.example.com", 443),
                    (true, "api.example.com", 8443),
                    (true, "example.com", 443),
                    (true, "x.api.example.com", 443),
                    (true, "api.example.com.evil.com", 443),
                ],
            ),
            Case(
                "https://*.example.com:8443",
                &[(true, "a.example.com", 8443), (true, "a.b.example.com", 8443)],
                &[
                    (true, "example.com", 8443),
                    (true, ".example.com", 8443),
                    (true, "evilexample.com", 8443),
                    (true, "a.example.com", 443),
                ],
            ),
            Case(
                "http://127.0.0.1:8080",
                &[(false, "127.0.0.1", 8080)],
                &[(false, "127.0.0.1", 80)],
            ),
            Case("http://[::0001]", &[(false, "::1", 80)], &[(false, "::2", 80)]),
        ];
        for Case(text, allowed, refused) in cases {
            let grant: HttpGrant = text.parse().unwrap();
            for &(secure, host, port) in allowed {
                assert!(grant.allows(secure, host, port), "{text}: {host}:{port}");
            }
            for &(secure, host, port) in refused {
                assert!(!grant.allows(secure, host, port), "{text}: {host}:{port}");
            }
        }
    }

    #[test]
    fn a_grant_prints_as_it_is_written() {
        for text in ["https://a.com", "http://*.a.com:81", "http://[::1]:80", "http://10.0.0.1"] {
            let grant: HttpGrant = text.parse().unwrap();
            assert_eq!(grant.to_string().parse::<HttpGrant>().unwrap(), grant);
        }
        assert_eq!("https://A.com:443".parse::<HttpGrant>().unwrap().to_string(), "https://a.com");
        assert_eq!("http://[::1]:81".parse::<HttpGrant>().unwrap().to_string(), "http://[::1]:81");
    }

    #[test]
    fn what_is_no_grant_says_why() {
        let cases = [
            ("api.example.com", "starts with https://"),
            ("ftp://a.com", "starts with https://"),
            ("https://a.com/", "without a path"),
            ("https://user@a.com", "without a path or a user"),
            ("https://a.com:0", "no port"),
            ("https://a.com:http", "no port"),
            ("https://", "no host name"),
            ("https://a..com", "no host name"),
            ("https://-a.com", "no host name"),
            ("https://münchen.de", "xn--"),
            ("https://*", "stands before a domain"),
            ("https://a.*.com", "stands before a domain"),
            ("https://*.com", "too wide"),
            ("https://*.10.0.0.1", "too wide"),
            ("http://2130706433", "no host name"),
            ("http://127.1", "no host name"),
            ("http://a.0x7f", "no host name"),
            ("http://[::1", "no host name"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<HttpGrant>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
