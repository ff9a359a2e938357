use gw_sdk::testing::Host;

use super::*;

/// What becomes of a body where `kinds` is configured.
fn redacted(kinds: Option<&str>, body: &str) -> String {
    let host = kinds.into_iter().fold(Host::new(), |host, kinds| host.config("kinds", kinds));
    let mut body = body.as_bytes().to_vec();
    host.run(|| hide(&[], &mut body, 415)).unwrap();
    String::from_utf8(body).unwrap()
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (body, expected) in cases {
        assert_eq!(redacted(None, body), *expected, "{body}");
    }
}

#[test]
fn mail_addresses_are_hidden() {
    check(&[
        ("write to joe.doe+news@mail.example.co.uk.", "write to [email]."),
        ("<a@b.io>,c_d@e-f.org", "<[email]>,[email]"),
        ("jörg@müller.de und иван@почта.рф", "[email] und [email]"),
        ("请联系a@b.com谢谢", "请联系[email]谢谢"),
        ("12/x@y.com mailto:x@y.com?subject=hi", "12/[email] mailto:[email]?subject=hi"),
        ("joe@localhost @joe a@b 3@4.5", "joe@localhost @joe a@b 3@4.5"),
    ]);
}

/// From the registry of IBANs, and each with a digit changed.
#[test]
fn ibans_are_hidden_where_their_checksum_holds() {
    check(&[
        ("DE89370400440532013000", "[iban]"),
        ("to DE89 3704 0044 0532 0130 00 by Monday", "to [iban] by Monday"),
        ("GB82 WEST 1234 5698 7654 32 GBP 400", "[iban] GBP 400"),
        ("NO9386011117947, MT84MALT011000012345MTLCAST001S", "[iban], [iban]"),
        ("fr1420041010050500013m02606", "[iban]"),
        ("DE88370400440532013000", "DE88370400440532013000"),
        ("GB82 WEST 1234 5698 7654 33", "GB82 WEST 1234 5698 7654 33"),
    ]);
}

/// Numbers that issuers publish for tests.
#[test]
fn cards_are_hidden_where_their_checksum_and_length_hold() {
    check(&[
        ("4111 1111 1111 1111", "[card]"),
        ("card 5555-5555-5555-4444, exp 12/27", "card [card], exp 12/27"),
        ("4111 1111 1111 1111 12/27", "[card] 12/27"),
        ("3 4111111111111111", "3 [card]"),
        ("378282246310005 30569309025904 6011000990139424", "[card] [card] [card]"),
        ("2223003122003222 4222222222222", "[card] [card]"),
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        (
            "14111111111111111 41111111111111110 1700000000000",
            "14111111111111111 41111111111111110 1700000000000",
        ),
    ]);
}

#[test]
fn addresses_of_the_internet_are_hidden() {
    check(&[
        ("from 192.168.0.1:8080 to 8.8.8.8.", "from [ip]:8080 to [ip]."),
        ("[2001:db8::1]:443 ::1 fe80::1ff:fe23:4567:890a", "[[ip]]:443 [ip] [ip]"),
        ("::ffff:10.0.0.1", "[ip]"),
        ("2001:0db8:85a3:0000:0000:8a2e:0370:7334", "[ip]"),
        ("999.1.1.1 1.2.3 at 12:30:45", "999.1.1.1 1.2.3 at 12:30:45"),
        ("std::fs a::b {\u{e9}:1}", "std::fs a::b {\u{e9}:1}"),
    ]);
}

#[test]
fn phones_are_hidden() {
    check(&[
        ("+49 (0)30 1234567", "[phone]"),
        ("+14155552671 or +44 20 7946 0958x12", "[phone] or [phone]x12"),
        ("(415) 555-2671, 1-415-555-2671", "[phone], [phone]"),
        ("030 1234567, 0171/2345678, 090-1234-5678", "[phone], [phone], [phone]"),
        ("01 23 45 67 89", "[phone]"),
        (
            "Invoice No. 2024-0817, 01-02-2024, 0.12345678",
            "Invoice No. 2024-0817, 01-02-2024, 0.12345678",
        ),
        ("Total: $1,284.50 +1.5 4+5 00:15", "Total: $1,284.50 +1.5 4+5 00:15"),
    ]);
}

#[test]
fn only_configured_kinds_are_hidden_and_the_order_of_names_does_not_matter() {
    let body = "a@b.com 4111 1111 1111 1111 +14155552671";
    assert_eq!(redacted(Some("phone,card"), body), "a@b.com [card] [phone]");
    assert_eq!(redacted(Some("email"), body), "[email] 4111 1111 1111 1111 +14155552671");
}

#[test]
fn a_kind_that_is_not_known_is_an_error_and_not_a_leak() {
    let host = Host::new().config("kinds", "email, phones");
    let error = host.run(|| hide(&[], &mut b"x".to_vec(), 415)).unwrap_err();
    assert_eq!((error.status, error.code.as_str()), (500, "wrong_config"));
    assert!(error.message.contains("phones\""), "{error}");
    assert!(error.message.contains("email, iban, card, ip, phone"), "{error}");
}

#[test]
fn json_stays_json_and_what_is_not_hidden_stays_as_it_is() {
    check(&[
        (r#"{"to": "a@b.com" , "n":1.50, "n":-0}"#, r#"{"to": "[email]" , "n":1.50, "n":-0}"#),
        (r#"["a\u0040b.com", "j\u00f6rg@x.de"]"#, r#"["[email]", "[email]"]"#),
        (r#"["call\n4111 1111 1111 1111\ttoday"]"#, r#"["call\n[card]\ttoday"]"#),
        (
            r#"{"card": 4111111111111111, "id": 12345678901234567890}"#,
            r#"{"card": "[card]", "id": 12345678901234567890}"#,
        ),
        (r#"{"a@b.com": {"c@d.org": []}}"#, r#"{"[email]": {"[email]": []}}"#),
        ("{\"a\": \"x@y.de\"}\n{\"a\": 1}\n", "{\"a\": \"[email]\"}\n{\"a\": 1}\n"),
        (r#"{"cut": "a@b.com"#, r#"{"cut": "[email]"#),
    ]);
}

#[test]
fn any_text_in_json_reads_the_same_or_is_hidden() {
    for text in ["\"\\\u{8}\u{1f}é🙂", "\\u0040 \"a@b.com\"", "-", "1e5", ""] {
        let body = serde_json::json!({ "text": [text, 1e-7, true, null] }).to_string();
        let after: Value = serde_json::from_str(&redacted(None, &body)).unwrap();
        let expected = text.replace("a@b.com", "[email]");
        assert_eq!(after, serde_json::json!({ "text": [expected, 1e-7, true, null] }));
    }
}

#[test]
fn bytes_that_are_no_text_pass() {
    let mut body = b"\xff\x00a@b.com".to_vec();
    assert_eq!(Host::new().run(|| hide(&[], &mut body, 415)), Ok(0));
    assert_eq!(body, b"\xff\x00a@b.com");
}

#[test]
fn neither_the_rest_of_the_chain_nor_the_client_sees_what_is_hidden() {
    let request =
        Request::new("POST", "/").with_header("accept-encoding", "gzip").with_body("I am a@b.com");
    let response = Host::new().call_hooks::<Redact>(request, |request| {
        assert_eq!(request.body, b"I am [email]");
        assert_eq!(request.header("accept-encoding"), None);
        Response::new(200, "text/plain", "hello [email], call +14155552671 from 10.0.0.1")
    });
    let response = response.unwrap();
    assert_eq!(response.body, b"hello [email], call [phone] from [ip]");
    assert_eq!(response.header("x-redacted"), Some("request=1, response=2"));
}

#[test]
fn what_is_encoded_is_refused() {
    let encoded = |body: &str| Request::new("POST", "/").with_header("content-encoding", body);
    let host = Host::new();
    let refused = host.call_hooks::<Redact>(encoded("gzip"), |_| panic!("it went on")).unwrap();
    assert_eq!(refused.status, 415);
    let passed = |_| Response::new(200, "text/plain", "").with_header("content-encoding", "br");
    let refused = host.call_hooks::<Redact>(encoded("identity"), passed).unwrap();
    assert_eq!(refused.status, 502);
}

/// Where everything is a candidate, and nothing is one, time grows with the text, not its square:
/// that would be minutes.
#[test]
fn a_hostile_text_is_read_in_time() {
    for piece in ["a@", "4 ", "4111-", "+1 ", "::", "DE11 ", "a.a.", "1.1.1."] {
        let text = piece.repeat(4_000 / piece.len());
        let start = std::time::Instant::now();
        redacted(None, &text);
        assert!(start.elapsed().as_secs() < 60, "{piece:?}: {:?}", start.elapsed());
    }
}
