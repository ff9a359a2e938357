//! The image plugins on photographs, on the CPU and on a GPU adapter, against ONNX Runtime with
//! Pillow's pixels: `tests/reference/plugins_vision.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gw_artifact::manifest::Manifest;
use gw_artifact::{Digest, Source};
use gw_tests::gateway::{Answer, Gateway, send};
use gw_tests::reference::{self, app, photos::photo};
use gw_tests::{fetch, repo};
use serde_json::Value;

/// Both sides round pixels of a smaller picture, not always to the same of two neighbours; the JPEG
/// decoders differ in more.
const SCORE_ERROR_MAX: f64 = 0.02;
/// Of what open-nsfw says of these pictures: it is near 0 for all of them, and swapped colours or a
/// missing mean move it by 0.005.
const MODERATION_ERROR_MAX: f64 = 0.001;
/// A pixel that is rounded otherwise decides which of two squares of nearly equal scores a network
/// looks at, and it moves the edges of one not quite to those of the other.
const PIXELS_ERROR_MAX: f64 = 3.0;

/// An app of `plugins/`, served.
fn serve(plugin: &str, device: &str) -> Gateway {
    let app = app(plugin).expect("its model can be made");
    Gateway::dev(&app, &["--no-watch", "--device", device])
}

/// The files of a plugin's models and assets, in the order of its `gw.toml`.
fn files(plugin: &str) -> Vec<PathBuf> {
    let app = repo().join("plugins").join(plugin);
    let (manifest, _) = Manifest::open(&app).expect("a manifest");
    let models = manifest.models.iter().map(|model| (&model.source, model.sha256.as_ref()));
    let assets = manifest.assets.iter().map(|asset| (&asset.source, asset.sha256.as_ref()));
    let file = |(source, sha256): (&Source, Option<&Digest>)| match source {
        Source::File { path } => app.join(path),
        _ => fetch(source, sha256).expect("a file of the manifest"),
    };
    models.chain(assets).map(file).collect()
}

/// What the reference says of each image.
fn expected(plugin: &str, images: &[PathBuf]) -> Vec<Value> {
    let output = Command::new(reference::python().expect("the Python of the references"))
        .arg(repo().join("tests/reference/plugins_vision.py"))
        .arg(plugin)
        .args(files(plugin))
        .args(images)
        .output()
        .expect("the reference starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a list in JSON")
}

fn ask(gateway: &Gateway, path: &str, image: &Path) -> Answer {
    let bytes = fs::read(image).expect("a fetched image");
    send("POST", &format!("{}{path}", gateway.url), Some(&bytes))
}

fn answer(gateway: &Gateway, path: &str, image: &Path) -> Value {
    let answer = ask(gateway, path, image);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number, not {value}"))
}

fn assert_near(given: &Value, due: &Value, error_max: f64, what: &str) {
    let error = (number(given) - number(due)).abs();
    assert!(error <= error_max, "{what} is {given}, and {due} by ONNX Runtime");
}

fn classifies(device: &str) {
    let gateway = serve("classify-image", device);
    let names = ["coffee.png", "chelsea.png", "motorcycle_left.png", "rocket.jpg"];
    let images = names.map(photo);
    for ((image, name), due) in images.iter().zip(names).zip(expected("classify-image", &images)) {
        let given = answer(&gateway, "/classify?top=1000", image);
        let (given, due) = (list(&given["classes"]), list(&due));
        assert_eq!((given.len(), due.len()), (1000, 1000));
        assert!(given.windows(2).all(|two| number(&two[0]["score"]) >= number(&two[1]["score"])));
        assert_eq!(given[0]["label"], due[0]["label"], "{name}");
        for due in due {
            let given = given.iter().find(|class| class["index"] == due["index"]);
            let given = given.expect("every class has a score");
            assert_eq!(given["label"], due["label"]);
            assert_near(&given["score"], &due["score"], SCORE_ERROR_MAX, name);
        }
    }
    for (image, label) in images.iter().zip(["espresso", "Egyptian cat", "moped", "missile"]) {
        let given = answer(&gateway, "/classify", image);
        assert_eq!(list(&given["classes"]).len(), 5);
        assert_eq!(given["classes"][0]["label"], label);
    }
    let refused = ask(&gateway, "/classify", &repo().join("README.md"));
    assert_eq!(refused.status, 415, "{}", refused.body);
    assert_eq!(refused.json()["error"]["code"], "unsupported_image");
}

fn moderates(device: &str) {
    let gateway = serve("moderate-image", device);
    let names = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"];
    let images = names.map(photo);
    for ((image, name), due) in images.iter().zip(names).zip(expected("moderate-image", &images)) {
        let given = answer(&gateway, "/moderate", image);
        assert_eq!(given["flagged"], false, "{name}: {given}");
        for score in ["safe", "nsfw"] {
            assert_near(&given["scores"][score], &due[score], MODERATION_ERROR_MAX, name);
        }
    }
    // The coffee scores 0.013: the threshold is the caller's.
    let coffee = answer(&gateway, "/moderate?threshold=0.001", &images[2]);
    assert_eq!(coffee["flagged"], true, "{coffee}");
}

/// A page with one photograph in four sizes, made by the reference.
fn sheet(folder: &Path) -> PathBuf {
    let page = folder.join("sheet.png");
    let status = Command::new(reference::python().expect("the Python of the references"))
        .arg(repo().join("tests/reference/plugins_vision.py"))
        .arg("sheet")
        .args([&photo("astronaut.png"), &page])
        .status();
    assert!(status.expect("the reference starts").success());
    page
}

fn assert_same_face(given: &Value, due: &Value) {
    assert_near(&given["score"], &due["score"], SCORE_ERROR_MAX, "the score");
    let (place, edges) = (&given["box"], &due["box"]);
    let (x, y) = (number(&place["x"]), number(&place["y"]));
    let given_edges = [x, y, x + number(&place["width"]), y + number(&place["height"])];
    for (given, due) in given_edges.iter().zip(list(edges)) {
        assert_near(&Value::from(*given), due, PIXELS_ERROR_MAX, "an edge");
    }
    let names = ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"];
    for (name, due) in names.iter().zip(list(&due["landmarks"])) {
        for (given, due) in list(&given["landmarks"][name]).iter().zip(list(due)) {
            assert_near(given, due, PIXELS_ERROR_MAX, name);
        }
    }
}

fn detects(device: &str) {
    let gateway = serve("detect-face", device);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let images = [photo("astronaut.png"), sheet(folder.path()), photo("coffee.png")];
    let due = expected("detect-face", &images);
    for ((image, due), count) in images.iter().zip(&due).zip([1, 4, 0]) {
        let given = answer(&gateway, "/faces", image);
        let given = list(&given["faces"]);
        assert_eq!((given.len(), list(due).len()), (count, count), "{given:?}");
        assert!(given.windows(2).all(|two| number(&two[0]["score"]) >= number(&two[1]["score"])));
        // Two faces that score alike may change places.
        let mut left = list(due).to_vec();
        for given in given {
            let x = number(&given["box"]["x"]);
            let distance = |due: &Value| (number(&due["box"][0]) - x).abs();
            left.sort_by(|a, b| distance(b).total_cmp(&distance(a)));
            assert_same_face(given, &left.pop().expect("as many are due"));
        }
    }
    // Where anybody sees the astronaut's face: (180, 60) to (268, 174).
    let face = &answer(&gateway, "/faces", &images[0])["faces"][0]["box"];
    for (side, due) in [("x", 180.0), ("y", 60.0), ("width", 88.0), ("height", 114.0)] {
        assert!((number(&face[side]) - due).abs() <= 8.0, "{side}: {face}");
    }
    // The smallest of the four is 17 pixels wide, the largest 69.
    let large = answer(&gateway, "/faces?min_size=60", &images[1]);
    let large = list(&large["faces"]);
    assert!(!large.is_empty() && large.len() < 4, "{large:?}");
    assert!(large.iter().all(|face| number(&face["box"]["width"]) > 20.0), "{large:?}");
}

#[test]
fn cpu_classes_agree_with_onnx_runtime() {
    classifies("cpu");
}

#[test]
fn gpu_classes_agree_with_onnx_runtime() {
    classifies("llvmpipe");
}

#[test]
fn cpu_moderation_agrees_with_onnx_runtime() {
    moderates("cpu");
}

#[test]
fn gpu_moderation_agrees_with_onnx_runtime() {
    moderates("llvmpipe");
}

#[test]
fn cpu_faces_agree_with_onnx_runtime() {
    detects("cpu");
}

#[test]
fn gpu_faces_agree_with_onnx_runtime() {
    detects("llvmpipe");
}
