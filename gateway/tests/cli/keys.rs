//! `gw keys`: made once, never overwritten, kept from others.

use crate::{User, exists};

#[test]
fn a_key_is_made_in_the_users_configuration_folder() {
    let user = User::new();
    let made = user.gw(&["keys", "new"]).done();
    let public = made.out.trim();
    assert!(public.starts_with("ed25519:"), "{public}");
    assert!(exists(&user.path("config/gw/key")));
    assert_eq!(user.gw(&["keys", "show"]).done().out.trim(), public);
}

#[cfg(unix)]
#[test]
fn nobody_else_can_read_the_private_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let user = User::new();
    let file = user.path("key");
    user.gw(&["keys", "new", "--out", &file]).done();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_key_is_never_overwritten() {
    let user = User::new();
    let file = user.path("key");
    let first = user.gw(&["keys", "new", "--out", &file]).done().out;
    user.gw(&["keys", "new", "--out", &file]).refused(1, &["never overwritten", "hint:"]);
    assert_eq!(user.gw(&["keys", "show", "--key", &file]).done().out, first);
}

#[test]
fn what_is_no_key_is_refused() {
    let user = User::new();
    user.gw(&["keys", "show"]).refused(1, &["there is no key", "gw keys new"]);
    let noise = user.write("noise", "not a key");
    user.gw(&["keys", "show", "--key", &noise]).refused(1, &[&noise]);
}

#[test]
fn keys_print_as_json() {
    let user = User::new();
    let file = user.path("key");
    let made = user.gw(&["keys", "new", "--out", &file, "-o", "json"]).done().json();
    assert_eq!(made["file"], file.as_str());
    assert!(made["public_key"].as_str().unwrap().starts_with("ed25519:"));
}
