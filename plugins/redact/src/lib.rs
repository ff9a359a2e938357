//! Hides personal data from what comes behind it and from the client: mail addresses, card numbers
//! and the like are taken out of both bodies before anybody else sees them.

mod kinds;

use std::sync::LazyLock;

use gw_sdk::{Answer, Error, Hooks, Outcome, Request, Response, hooks};
use serde::de::IgnoredAny;
use serde_json::{Deserializer, Value};

use crate::kinds::{Kinds, REGEXES};

fn prepare() {
    LazyLock::force(&REGEXES);
}

/// Looks into what passes, both ways.
pub struct Redact;

#[hooks(init = prepare)]
impl Hooks for Redact {
    /// How much was hidden in the request.
    type State = usize;

    fn pre(mut request: Request) -> Result<Outcome<usize>, Error> {
        let hidden = hide(&request.headers, &mut request.body, 415)?;
        // What comes behind could answer in an encoding that `post` cannot look into.
        request.headers.retain(|(name, _)| name != "accept-encoding");
        Ok(Outcome::Watch { request: Some(request), state: hidden })
    }

    fn post(state: usize, answer: Answer) -> Result<Response, Error> {
        let mut response = answer.response()?;
        let hidden = hide(&response.headers, &mut response.body, 502)?;
        Ok(response.with_header("x-redacted", &format!("request={state}, response={hidden}")))
    }
}

/// Hides what there is to hide, and says how much it was. What is no text has none; what is encoded
/// is answered with `status`, as it may have.
fn hide(headers: &[(String, Vec<u8>)], body: &mut Vec<u8>, status: u16) -> Result<usize, Error> {
    if headers.iter().any(|(name, value)| name == "content-encoding" && value != b"identity") {
        let message = "`redact` cannot look into an encoded body: send it as it is";
        return Err(Error::new(status, "encoded_body", message).field("content-encoding"));
    }
    let kinds = Kinds::granted()?;
    let Ok(text) = std::str::from_utf8(body) else { return Ok(0) };
    // A list or an object, or several, one a line.
    let json = text.trim_start().starts_with(['{', '['])
        && Deserializer::from_str(text).into_iter::<IgnoredAny>().all(|value| value.is_ok());
    let (redacted, hidden) = if json { in_json(text, &kinds) } else { kinds.redact(text) };
    *body = redacted.into_bytes();
    Ok(hidden)
}

/// Strings count as what they mean, not as they are spelled; a number that is hidden becomes one.
fn in_json(text: &str, kinds: &Kinds) -> (String, usize) {
    let (mut out, mut rest, mut hidden) = (String::with_capacity(text.len()), text, 0);
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let mut scalars = Deserializer::from_str(&rest[start..]).into_iter::<Value>();
        let scalar = scalars.next();
        let end = start + scalars.byte_offset();
        let meant = match scalar {
            Some(Ok(Value::String(text))) => text,
            _ => rest[start..end].to_owned(),
        };
        let (redacted, count) = kinds.redact(&meant);
        out += &rest[..if count > 0 { start } else { end }];
        if count > 0 {
            out += &Value::String(redacted).to_string();
        }
        (rest, hidden) = (&rest[end..], hidden + count);
    }
    (out + rest, hidden)
}

#[cfg(test)]
mod tests;
