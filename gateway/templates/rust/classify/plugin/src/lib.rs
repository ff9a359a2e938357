//! Says what kind of file it is given: any bytes in, the likeliest kinds out.

use std::iter::repeat_n;
use std::sync::LazyLock;

use gw_sdk::nn::{Graph, Tensor};
use gw_sdk::{Body, Error, Json, assets, handler};
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
/// How many kinds are answered.
const KINDS: usize = 3;

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
struct Answer {
    kinds: Vec<Kind>,
}

#[derive(Serialize)]
struct Kind {
    kind: &'static str,
    score: f32,
}

/// Runs once, when the plugin is built: every request starts with the names in place.
fn prepare() {
    LazyLock::force(&NAMES);
}

#[handler(init = prepare)]
fn classify(Body(file): Body) -> Result<Json<Answer>, Error> {
    let bytes = Tensor::new([1, 2 * END], both_ends(&file)?)?;
    let outputs = Graph::load(MODEL)?.compute([("bytes", bytes.into())])?;
    let scores = outputs.read::<f32>("target_label")?.expect_dims([Some(1), Some(NAMES.len())])?;
    let mut kinds: Vec<Kind> =
        NAMES.iter().zip(scores.into_vec()).map(|(kind, score)| Kind { kind, score }).collect();
    kinds.sort_by(|a, b| b.score.total_cmp(&a.score));
    kinds.truncate(KINDS);
    Ok(Json(Answer { kinds }))
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
    use gw_sdk::Request;
    use gw_sdk::testing::Host;

    use super::*;

    #[test]
    fn the_likeliest_kinds_are_answered() {
        let assets = std::env::temp_dir().join(format!("classify-{}", std::process::id()));
        std::fs::create_dir_all(&assets).unwrap();
        let names = r#"{"target_labels_space": ["csv", "png", "sql", "zip"]}"#;
        std::fs::write(assets.join("magika.json"), names).unwrap();
        let host = Host::new().assets(assets).model(MODEL, |inputs| {
            let bytes = inputs.read::<i32>("bytes")?;
            assert_eq!(bytes.as_slice()[..2], [i32::from(b'S'), i32::from(b'E')]);
            Ok(vec![("target_label", Tensor::new([1, 4], [0.25f32, 0.0, 0.625, 0.125])?.into())])
        });
        let response = host.call(classify, Request::new("POST", "/").with_body("SELECT * FROM t"));
        assert_eq!(
            String::from_utf8(response.body).unwrap(),
            r#"{"kinds":[{"kind":"sql","score":0.625},{"kind":"csv","score":0.25},{"kind":"zip","score":0.125}]}"#
        );
    }

    #[test]
    fn a_file_is_seen_from_both_ends() {
        let short = both_ends(b"  12345678\n").unwrap();
        assert_eq!(short.len(), 2 * END);
        // White space counts at the other end.
        assert_eq!((short[0], short[8], short[9]), (i32::from(b'1'), i32::from(b'\n'), NOTHING));
        assert_eq!((short[2 * END - 11], short[2 * END - 1]), (NOTHING, i32::from(b'8')));
        let mut file = vec![b'a'; 3 * SEEN];
        file[END] = b'b';
        let long = both_ends(&file).unwrap();
        assert!(long.iter().all(|&byte| byte == i32::from(b'a')), "the middle is not seen");
        assert_eq!(both_ends(b"  1234567").unwrap_err().code, "too_short");
    }
}
