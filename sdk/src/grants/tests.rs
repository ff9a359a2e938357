use super::*;
use crate::testing::Host;
use crate::{Error, Request, Response, outbound};
use outbound::{ErrorCode, Outgoing};

#[test]
fn secrets_are_given_by_name_only() {
    let host = Host::new().config("unit", "m").secret("token", "s3");
    host.run(|| {
        assert_eq!(config::get("token").unwrap().as_deref(), Some("s3"));
        assert_eq!(config::get("unit").unwrap().as_deref(), Some("m"));
        assert_eq!(config::get("other").unwrap(), None);
        assert_eq!(config::get_all().unwrap(), [("unit".to_owned(), "m".to_owned())]);
    });
}

#[test]
fn a_plugin_without_any_value_is_refused_as_on_a_node() {
    let error = Host::new().run(|| config::get("limit")).unwrap_err();
    assert!(error.to_string().contains("`Host::config`"), "{error}");
    assert_eq!(Error::from(error).code, "config_unavailable");
    assert_eq!(Host::new().run(|| config::parse("limit", 3)), Ok(3));
}

#[test]
fn a_value_that_cannot_be_read_is_told_with_its_key() {
    let error = Host::new().config("limit", "many").run(|| config::parse("limit", 3u8));
    let error = error.unwrap_err();
    assert_eq!((error.status, error.code.as_str()), (500, "wrong_config"));
    assert!(error.message.starts_with("`limit` in gw.toml's config is \"many\": "), "{error}");
}

#[test]
fn a_bucket_keeps_what_is_set() {
    let host = Host::new().bucket("b", [("old", "1"), ("text", "x")]);
    let operate = || -> Result<(), Error> {
        let bucket = keyvalue::open("b")?;
        assert_eq!(bucket.increment("old", 2)?, 3);
        assert_eq!(bucket.increment("new", 5)?, 5);
        assert!(bucket.increment("text", 1).is_err());
        bucket.set("text", b"y")?;
        assert_eq!(bucket.get("text")?, Some(b"y".to_vec()));
        let keys = ["new", "none"].map(str::to_owned);
        assert_eq!(bucket.get_many(&keys)?, [Some(("new".to_owned(), b"5".to_vec())), None]);
        bucket.set_many(&[("a".to_owned(), b"z".to_vec())])?;
        bucket.delete("old")?;
        bucket.delete_many(&keys)?;
        assert!(bucket.exists("a")? && !bucket.exists("old")?);
        assert_eq!(bucket.list_keys(None)?.keys, ["a", "text"]);
        Ok(())
    };
    host.run(operate).unwrap();
    assert_eq!(host.value("b", "a").as_deref(), Some(&b"z"[..]));
    let error = host.run(|| keyvalue::open("c").map(drop)).unwrap_err();
    let error = Error::from(error);
    assert_eq!(error.code, "bucket_failed");
    assert!(error.message.contains("no bucket \"c\""), "{error}");
}

#[test]
fn an_asset_is_a_file_of_the_folder() {
    let host = Host::new().assets(concat!(env!("CARGO_MANIFEST_DIR"), "/wit"));
    let text = host.run(|| assets::read_text("world.wit")).unwrap();
    assert!(text.contains("world http"), "{text}");
    let error = host.run(|| assets::read("none.txt")).unwrap_err();
    assert!(error.message.starts_with("asset \"none.txt\" cannot be read: "), "{error}");
    let error = Host::new().run(|| assets::read("world.wit")).unwrap_err();
    assert!(error.message.contains("`Host::assets`"), "{error}");
}

#[test]
fn other_hosts_are_there_where_a_test_has_them() {
    let get = || Outgoing::new("GET", "https://a.example/x").send();
    let host = Host::new().outbound(|request| Ok(Response::new(200, "text/plain", request.url)));
    assert_eq!(host.run(get).unwrap().body, b"https://a.example/x");
    let denied = Host::new().run(get).unwrap_err();
    assert!(matches!(denied, ErrorCode::HttpRequestDenied), "{denied}");
    assert_eq!(Error::from(denied).code, "outbound_not_granted");
    let wrong = host.run(|| Outgoing::new("GET", "a.example").send()).unwrap_err();
    assert!(matches!(wrong, ErrorCode::HttpRequestUriInvalid), "{wrong}");
}

#[test]
fn messages_are_kept_with_their_level() {
    let host = Host::new();
    host.call(|request: Request| logging::warn(request.path), Request::new("GET", "/a"));
    let [message] = &host.logs()[..] else { panic!("one message") };
    assert_eq!((message.level, message.message.as_str()), (logging::Level::Warn, "/a"));
    logging::info("outside of a host nobody listens");
}
