//! Which addresses a plugin may connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a connection there is allowed. With `private`, it is not for addresses that belong to
/// no host.
pub(super) fn may_connect(address: IpAddr, private: bool) -> bool {
    match private {
        true => !(address.is_unspecified() || address.is_multicast() || is_broadcast(address)),
        false => is_public(address),
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether an address is of the public internet, by the registries of special addresses of IANA
/// (RFC 6890 and what came after it).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        // This network, private use, loopback.
        [0 | 10 | 127, ..]
        // Link-local, where clouds keep their metadata.
        | [169, 254, ..]
        // Private use; protocol assignments, documentation, relays of 6to4.
        | [192, 168, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _]
        // Benchmarks; documentation.
        | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        // Shared by carriers (CGNAT).
        [100, second, ..] => second & 0xc0 == 64,
        // Private use.
        [172, second, ..] => second & 0xf0 == 16,
        // Multicast, reserved, broadcast.
        [first, ..] => first >= 224,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Translated (NAT64) or tunnelled (6to4) to IPv4: judged by what it stands for.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // Protocol assignments (Teredo for one), documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // All that is assigned to hosts of the internet. What is not: loopback, IPv4 in IPv6,
        // unique local, link-local, multicast.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_reached_without_a_grant() {
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::101:101",
            "2002:101:101::",
        ];
        for address in public {
            assert!(may_connect(address.parse().unwrap(), false), "{address}");
        }
        let private = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:1.1.1.1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "5f00::1",
        ];
        for address in private {
            assert!(!may_connect(address.parse().unwrap(), false), "{address}");
        }
    }

    #[test]
    fn a_grant_of_private_networks_is_for_hosts() {
        for (address, allowed) in [
            ("127.0.0.1", true),
            ("10.0.0.1", true),
            ("::1", true),
            ("fd12::1", true),
            ("1.1.1.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(may_connect(address.parse().unwrap(), true), allowed, "{address}");
        }
    }
}
