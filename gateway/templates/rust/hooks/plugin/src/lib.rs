//! Lets files in by their kind: any bytes in, `{"kind", "bytes"}` or a refusal out.
//!
//! `pre` runs before the model and `post` after it, each in an instance of its own: none is alive
//! while the model runs.

use std::iter::repeat_n;
use std::sync::LazyLock;

use gw_sdk::nn::Tensor;
use gw_sdk::{Answer, Error, Hooks, Outcome, Request, Response, assets, config, hooks};
use serde::{Deserialize, Serialize};

/// The model's name in `gw.toml`.
const MODEL: &str = "magika";
/// The model looks at so many bytes of either end, but for white space,
const END: usize = 1024;
/// which is looked for in so many.
const SEEN: usize = 4096;
/// Stands for a byte where a file has none.
const NOTHING: i32 = 256;
/// Fewer bytes say nothing.
const BYTES_MIN: usize = 8;

/// The names of the kinds, in the order of the model's scores.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let json = assets::read("magika.json").expect("gw.toml lists magika.json");
    let config: Config = serde_json::from_slice(&json).expect("magika.json is the model's own");
    config.target_labels_space
});

#[derive(Deserialize)]
struct Config {
    target_labels_space: Vec<String>,
}

#[derive(Serialize)]
struct Accepted<'a> {
    kind: &'a str,
    bytes: usize,
}

/// Runs once, when the plugin is built: every request starts with the names in place.
fn prepare() {
    LazyLock::force(&NAMES);
}

struct Gate;

#[hooks(init = prepare)]
impl Hooks for Gate {
    /// What `post` is told of the request: how many bytes it had.
    type State = usize;

    fn pre(request: Request) -> Result<Outcome<usize>, Error> {
        let bytes = Tensor::new([1, 2 * END], both_ends(&request.body)?)?;
        Ok(Outcome::infer(MODEL, [("bytes", bytes.into())], request.body.len()))
    }

    fn post(bytes: usize, answer: Answer) -> Result<Response, Error> {
        let scores = answer.outputs()?.read::<f32>("target_label")?;
        let scores = scores.expect_dims([Some(1), Some(NAMES.len())])?;
        let scored = NAMES.iter().zip(scores.as_slice());
        let likeliest = scored.max_by(|a, b| a.1.total_cmp(b.1));
        let kind = likeliest.map_or("nothing", |(kind, _)| kind.as_str());
        let allowed = config::get("allowed")?.unwrap_or_default();
        if allowed.split_whitespace().any(|allowed| allowed == kind) {
            return Response::json(&Accepted { kind, bytes });
        }
        let message = format!("this is {kind}, and only these kinds are taken: {allowed}");
        Err(Error::new(415, "unsupported_kind", message).field("body"))
    }
}

/// What the model takes: the first bytes, and the last, each as a number.
fn both_ends(file: &[u8]) -> Result<Vec<i32>, Error> {
    let first = file[..file.len().min(SEEN)].trim_ascii_start();
    let last = file[file.len().saturating_sub(SEEN)..].trim_ascii_end();
    if first.len() < BYTES_MIN {
        let message = format!("a file needs {BYTES_MIN} bytes behind white space at its start");
        return Err(Error::new(422, "too_short", message).field("body"));
    }
    let first = &first[..first.len().min(END)];
    let last = &last[last.len().saturating_sub(END)..];
    let numbers = |bytes: &[u8]| bytes.iter().map(|&byte| i32::from(byte)).collect::<Vec<_>>();
    let mut ends = numbers(first);
    ends.extend(repeat_n(NOTHING, 2 * END - first.len() - last.len()));
    ends.extend(numbers(last));
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use gw_sdk::testing::Host;

    use super::*;

    /// A folder with the assets, made once.
    static ASSETS: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = std::env::temp_dir().join(format!("gate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let names = r#"{"target_labels_space": ["csv", "sql"]}"#;
        std::fs::write(folder.join("magika.json"), names).unwrap();
        folder
    });

    fn ask(allowed: &str, body: &str) -> (u16, String) {
        let host = Host::new().assets(&*ASSETS).config("allowed", allowed).model(MODEL, |inputs| {
            let bytes = inputs.read::<i32>("bytes")?;
            assert_eq!(bytes.as_slice()[..2], [i32::from(b'S'), i32::from(b'E')]);
            Ok(vec![("target_label", Tensor::new([1, 2], [0.25f32, 0.75])?.into())])
        });
        let request = Request::new("POST", "/upload").with_body(body);
        let response = host.call_hooks::<Gate>(request, |_| unreachable!("nothing is passed on"));
        let response = response.unwrap();
        (response.status, String::from_utf8(response.body).unwrap())
    }

    #[test]
    fn only_the_allowed_kinds_are_taken() {
        let accepted = r#"{"kind":"sql","bytes":8}"#.to_owned();
        assert_eq!(ask("sql png", "SELECT 1"), (200, accepted));
        let (status, answer) = ask("png", "SELECT 1");
        assert_eq!(status, 415);
        assert!(answer.contains("unsupported_kind") && answer.contains("this is sql"), "{answer}");
    }

    #[test]
    fn what_is_too_short_never_reaches_the_model() {
        assert_eq!(ask("sql", "  short  ").0, 422);
    }
}
