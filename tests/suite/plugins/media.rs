//! The plugins for sounds, printed pages and personal data, on the CPU and on a GPU adapter,
//! against ONNX Runtime with the same steps in Python: `tests/reference/plugins_media.py`.

use std::fs;
use std::path::{Path, PathBuf};

use gw_artifact::manifest::{Manifest, ModelEntry};
use gw_tests::gateway::{Answer, Gateway, send};
use gw_tests::reference::media;
use gw_tests::reference::photos::photo;
use gw_tests::{fetch, repo};
use serde_json::Value;

/// What anybody reads on the photograph of a page.
const PRINTED: &str = "Region-based segmentation
    Let us first determine markers of the coins and the
    background. These markers are pixels that we can label
    unambiguously as either object or background. Here,
    the markers are found at the two extreme parts of the
    histogram of grey values:
    >>> markers = np.zeros_like(coins)";
/// Rectangles are found half a degree at a time here, by the edges of a hull there; a line of 380
/// pixels ends up to 2 pixels higher or lower, and is then cut out a little otherwise.
const PIXELS_ERROR_MAX: f64 = 6.0;
/// Of the mean probability of a line that is cut out otherwise by a pixel.
const CONFIDENCE_ERROR_MAX: f64 = 0.05;
/// Seconds: both round to chunks of 32 ms, and probabilities agree to 1e-4.
const SECONDS_ERROR_MAX: f64 = 0.005;

fn serve(plugin: &str, device: &str) -> Gateway {
    Gateway::dev(&repo().join("plugins").join(plugin), &["--no-watch", "--device", device])
}

/// What the reference says of files, by the models of the plugin's `gw.toml`.
fn expected(plugin: &str, files: &[&Path]) -> Vec<Value> {
    let (manifest, _) = Manifest::open(&repo().join("plugins").join(plugin)).expect("a manifest");
    let model = |model: &ModelEntry| {
        fetch(&model.source, model.sha256.as_ref()).expect("a model of the manifest")
    };
    let models: Vec<PathBuf> = manifest.models.iter().map(model).collect();
    let all: Vec<&Path> =
        models.iter().map(PathBuf::as_path).chain(files.iter().copied()).collect();
    media::told(plugin, &all).expect("the reference runs").as_array().expect("a list").clone()
}

fn ask(gateway: &Gateway, path: &str, file: &Path) -> Answer {
    let bytes = fs::read(file).expect("a file of the test");
    send("POST", &format!("{}{path}", gateway.url), Some(&bytes))
}

fn answer(gateway: &Gateway, path: &str, file: &Path) -> Value {
    let answer = ask(gateway, path, file);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("a list, not {value}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number, not {value}"))
}

fn text(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["text"].as_str().expect("a text")).collect()
}

/// How many letters must be put in, left out or changed to make `b` of `a`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.chars().enumerate() {
        let mut before = std::mem::replace(&mut row[0], at + 1);
        for column in 0..b.len() {
            let change = before + usize::from(letter != b[column]);
            before = row[column + 1];
            row[column + 1] = change.min(before + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

fn reads(device: &str) {
    let gateway = serve("ocr", device);
    let folder = tempfile::tempdir().expect("a folder");
    // Straight, askew, from the side, and on its head.
    for degrees in ["0", "12", "90", "180"] {
        let page = folder.path().join(format!("{degrees}.png"));
        let printed = media::page(&page, degrees).expect("the reference runs");
        let given = answer(&gateway, "/ocr", &page);
        let mut given = list(&given["lines"]).to_vec();
        // On its head, the last line is the first.
        if degrees == "180" {
            given.reverse();
        }
        assert_eq!(Value::from(text(&given)), printed, "turned by {degrees}");
        let [due] = &expected("ocr", &[&page])[..] else { panic!("one page") };
        let mut due = list(due).to_vec();
        if degrees == "180" {
            due.reverse();
        }
        assert_same_lines(&given, &due);
    }

    let photo = photo("page.png");
    let given = answer(&gateway, "/ocr", &photo);
    let [due] = &expected("ocr", &[&photo])[..] else { panic!("one page") };
    let (given, due) = (list(&given["lines"]), list(due));
    assert_eq!(given.len(), due.len(), "{:?} and {:?}", text(given), text(due));
    // Letters of some ten pixels: one that is cut out otherwise may be read otherwise, and spaces
    // come and go.
    let letters = |text: &str| text.split_whitespace().collect::<String>();
    let (given, due) = (letters(&text(given).concat()), letters(&text(due).concat()));
    let printed = letters(PRINTED);
    for other in [&due, &printed] {
        assert!(edits(&given, other) * 50 <= other.len(), "{given}\n\nand due\n\n{other}");
    }

    let refused = ask(&gateway, "/ocr", &repo().join("README.md"));
    assert_eq!(refused.status, 415, "{}", refused.body);
    assert_eq!(refused.json()["error"]["code"], "unsupported_image");
}

fn assert_same_lines(given: &[Value], due: &[Value]) {
    assert_eq!(text(given), text(due));
    for (given, due) in given.iter().zip(due) {
        let error = (number(&given["confidence"]) - number(&due["confidence"])).abs();
        assert!(error <= CONFIDENCE_ERROR_MAX, "{given} and {due}");
        for (given, due) in list(&given["corners"]).iter().zip(list(&due["corners"])) {
            for axis in 0..2 {
                let error = (number(&given[axis]) - number(&due[axis])).abs();
                assert!(error <= PIXELS_ERROR_MAX, "a corner at {given} and {due}");
            }
        }
    }
}

/// The part of both that is in both: F1 over milliseconds.
fn agreement(a: &[[f64; 2]], b: &[[f64; 2]]) -> f64 {
    let length = |spans: &[[f64; 2]]| spans.iter().map(|[from, to]| to - from).sum::<f64>();
    let both = |x: &[f64; 2], y: &[f64; 2]| (x[1].min(y[1]) - x[0].max(y[0])).max(0.0);
    let shared: f64 = a.iter().flat_map(|x| b.iter().map(move |y| both(x, y))).sum();
    2.0 * shared / (length(a) + length(b))
}

fn hears(device: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let sound = folder.path().join("speech.wav");
    let spoken = media::speech(&sound).expect("the reference runs");
    let spans = |value: &Value| -> Vec<[f64; 2]> {
        list(value).iter().map(|span| [number(&span[0]), number(&span[1])]).collect()
    };
    let spoken = spans(&spoken);
    let [due] = &expected("detect-speech", &[&sound])[..] else { panic!("one sound") };
    let due = spans(due);

    let gateway = serve("detect-speech", device);
    let given = answer(&gateway, "/detect-speech", &sound);
    let speech = list(&given["speech"]).iter();
    let given: Vec<_> = speech.map(|span| [number(&span["start"]), number(&span["end"])]).collect();
    assert_eq!(given.len(), due.len(), "{given:?} and {due:?}");
    for (given, due) in given.iter().flatten().zip(due.iter().flatten()) {
        assert!((given - due).abs() <= SECONDS_ERROR_MAX, "{given} s and {due} s");
    }
    let f1 = agreement(&given, &spoken);
    assert!(f1 >= 0.95, "{f1}: {given:?} is heard, {spoken:?} is spoken");

    let refused = ask(&gateway, "/detect-speech?threshold=3", &sound);
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert_eq!(refused.json()["error"]["field"], "threshold");
}

/// Half a minute of silence at a rate that has hardly a common measure with the model's: places in
/// between are more than a plugin's 32 bits count.
#[test]
fn an_odd_rate_loses_no_sound() {
    let (rate, seconds) = (11_127_u32, 30);
    let bytes = rate * seconds;
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + bytes).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend([rate, rate].map(u32::to_le_bytes).concat());
    wav.extend(b"\x01\0\x08\0data");
    wav.extend(bytes.to_le_bytes());
    wav.resize(44 + bytes as usize, 128);
    let gateway = serve("detect-speech", "cpu");
    let answer = send("POST", &format!("{}/detect-speech", gateway.url), Some(&wav));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    assert_eq!((number(&answer["duration"]), list(&answer["speech"]).len()), (30.0, 0));
}

#[test]
fn cpu_reading_agrees_with_onnx_runtime() {
    reads("cpu");
}

#[test]
fn gpu_reading_agrees_with_onnx_runtime() {
    reads("llvmpipe");
}

#[test]
fn cpu_hearing_agrees_with_onnx_runtime_and_with_what_is_spoken() {
    hears("cpu");
}

#[test]
fn gpu_hearing_agrees_with_onnx_runtime_and_with_what_is_spoken() {
    hears("llvmpipe");
}

/// `echo` answers what it was asked, so the answer shows what went by in both directions.
#[test]
fn what_is_redacted_is_seen_by_neither_side() {
    let gateway = serve("redact", "cpu");
    let body = r#"{"from": "joe@example.com", "card": "4111 1111 1111 1111", "at": "10.0.0.7", "total": 1284.50}"#;
    let given = gateway.post("/echo", body);
    assert_eq!(given.status, 200, "{}", given.body);
    let seen = given.json();
    let hidden = r#"{"from": "[email]", "card": "[card]", "at": "[ip]", "total": 1284.50}"#;
    assert_eq!(seen["body"], hidden);
    assert_eq!(given.header("x-redacted"), "request=3, response=0");
    // Paths pass as they are, and `echo` tells them: so this was hidden on the way back.
    let path = gateway.post("/echo?reply=joe@example.com", "{}");
    assert_eq!(path.json()["path"], "/echo?reply=[email]");
    // The headers that `echo` tells hold random numbers, which may look like somebody's too.
    let redacted = path.header("x-redacted");
    assert!(redacted.starts_with("request=0, response="), "{redacted}");
    assert_ne!(redacted, "request=0, response=0");
}
