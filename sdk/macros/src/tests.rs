use std::str::FromStr as _;

use proc_macro2::TokenStream;

use super::{handler, hooks};

type Expand = fn(TokenStream, TokenStream) -> syn::Result<TokenStream>;

/// What an attribute says of a mistake, and the words that it points at.
#[track_caller]
fn mistake(expand: Expand, options: &str, item: &str) -> (String, String) {
    let tokens = |text| TokenStream::from_str(text).unwrap();
    let error = expand(tokens(options), tokens(item)).expect_err(item);
    let place = error.span().source_text().unwrap_or_default();
    (error.to_string(), place)
}

#[test]
fn a_handler_that_cannot_be_used_is_told_what_to_change_and_where() {
    let cases = [
        ("async fn a() {}", "async", "remove `async`"),
        ("unsafe fn a() {}", "unsafe", "remove `unsafe`"),
        ("extern \"C\" fn a() {}", "extern \"C\"", "remove `extern`"),
        ("fn a<T>(b: Json<T>) {}", "<T>", "name the types"),
        ("fn a(&self) {}", "&self", "outside of any `impl`"),
        ("fn a(b: Body, c: &Request) {}", "&Request", "without `&`"),
        ("struct A;", "struct", "stands on a function"),
    ];
    for (item, place, fix) in cases {
        let (message, given) = mistake(handler::expand, "", item);
        assert!(message.contains(fix), "{item}: {message}");
        assert_eq!(given, place, "{item}: {message}");
    }
}

#[test]
fn hooks_that_cannot_be_used_are_told_what_to_change_and_where() {
    let cases = [
        ("impl Redact {}", "Redact", "`impl Hooks for NAME { .. }`"),
        ("impl Plugin for Redact {}", "Plugin", "`impl Hooks for NAME { .. }`"),
        ("impl<T> Hooks for Redact<T> {}", "<T>", "name the types"),
        ("fn pre() {}", "fn", "stands on an `impl`"),
    ];
    for (item, place, fix) in cases {
        let (message, given) = mistake(hooks::expand, "", item);
        assert!(message.contains(fix), "{item}: {message}");
        assert_eq!(given, place, "{item}: {message}");
    }
}

#[test]
fn options_are_named_when_they_are_wrong() {
    for options in ["inti = prepare", "prepare", "init = prepare, limit = 3", "3"] {
        let (message, _) = mistake(handler::expand, options, "fn a() {}");
        assert!(message.contains("the only option is"), "{options}: {message}");
    }
    for options in ["init", "init = ", "init = \"prepare\""] {
        let (message, _) = mistake(hooks::expand, options, "impl Hooks for A {}");
        assert!(message.contains("name a function here"), "{options}: {message}");
    }
    let (message, place) = mistake(handler::expand, "init = a, init = b", "fn a() {}");
    assert_eq!((message.contains("given twice"), place.as_str()), (true, "init"), "{message}");
}

#[test]
fn what_the_attributes_stand_on_stays_as_it_is() {
    let expand = |expand: Expand, options: &str, item: &str| {
        expand(options.parse().unwrap(), item.parse().unwrap()).unwrap().to_string()
    };
    let item =
        "# [doc = \"Adds.\"] pub fn add (Json (a) : Json < u8 >) -> String { a . to_string () }";
    let expanded = expand(handler::expand, "init = tables::prepare,", item);
    assert!(expanded.starts_with(item), "{expanded}");
    assert!(expanded.contains("finish (tables :: prepare ())"), "{expanded}");
    let hooks = expand(hooks::expand, "", "impl gw_sdk::Hooks for Redact {}");
    assert!(hooks.starts_with("impl gw_sdk :: Hooks for Redact { type State = () ;"), "{hooks}");
}
