//! Does what its body says, one command a line, and answers one line each: what it got, or the
//! error.

use std::fmt::Debug;

use gw_sdk::keyvalue::{self, Bucket};
use gw_sdk::logging::{Level, log};
use gw_sdk::outbound::Outgoing;
use gw_sdk::{Error, Request, Response, config, handler};

#[handler]
fn handle(request: Request) -> Result<Response, Error> {
    let text = String::from_utf8_lossy(&request.body);
    let answers: Vec<_> = text.lines().map(answer).collect();
    Ok(Response::new(200, "text/plain", answers.join("\n")))
}

fn answer(line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["config", key] => shown(config::get(key)),
        ["config-all"] => shown(config::get_all()),
        ["print", text] => {
            println!("{text}");
            "printed".to_owned()
        }
        ["log", text] => {
            log(Level::Warn, "guest", text);
            "logged".to_owned()
        }
        ["send", method, url] => send(method, url, 0),
        ["send", method, url, bytes] => send(method, url, bytes.parse().unwrap()),
        ["follow", url] => follow(url),
        [bucket, ref operation @ ..] => match keyvalue::open(bucket) {
            Ok(bucket) => operate(&bucket, operation),
            Err(error) => shown::<(), _>(Err(error)),
        },
        [] => String::new(),
    }
}

fn operate(bucket: &Bucket, operation: &[&str]) -> String {
    let text = |value: Option<Vec<u8>>| value.map(|value| String::from_utf8(value).unwrap());
    match *operation {
        ["get", key] => shown(bucket.get(key).map(text)),
        ["set", key, value] => shown(bucket.set(key, value.as_bytes())),
        ["delete", key] => shown(bucket.delete(key)),
        ["exists", key] => shown(bucket.exists(key)),
        ["list"] => shown(bucket.list_keys(None).map(|page| (page.keys, page.cursor))),
        ["add", key, delta] => shown(bucket.increment(key, delta.parse().unwrap())),
        ["get-many", ref keys @ ..] => {
            let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
            let found = bucket.get_many(&keys);
            shown(found.map(|found| {
                found.into_iter().map(|pair| text(pair.map(|(_, value)| value))).collect::<Vec<_>>()
            }))
        }
        ["set-many", ref keys @ ..] => {
            let pairs: Vec<_> =
                keys.iter().map(|key| ((*key).to_owned(), b"many".to_vec())).collect();
            shown(bucket.set_many(&pairs))
        }
        ["delete-many", ref keys @ ..] => {
            let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
            shown(bucket.delete_many(&keys))
        }
        _ => "no such command".to_owned(),
    }
}

fn send(method: &str, url: &str, bytes: usize) -> String {
    let sent = Outgoing::new(method, url).body(vec![b'x'; bytes]).send();
    match sent {
        Ok(response) => format!("{} {}", response.status, String::from_utf8_lossy(&response.body)),
        Err(code) => format!("{code:?}"),
    }
}

/// Follows redirects, as a client library would.
fn follow(url: &str) -> String {
    let mut url = url.to_owned();
    loop {
        let response = match Outgoing::new("GET", &url).send() {
            Ok(response) => response,
            Err(code) => return format!("{code:?} at {url}"),
        };
        let location = response.headers.iter().find(|(name, _)| name == "location");
        match location {
            Some((_, next)) => url = String::from_utf8(next.clone()).unwrap(),
            None => return String::from_utf8_lossy(&response.body).into_owned(),
        }
    }
}

fn shown<T: Debug, E: Debug>(result: Result<T, E>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("error: {error:?}"),
    }
}
