//! A voice activity detector whose state the gateway keeps, beside one whose plugin passes it by
//! hand.

use std::fmt::Write as _;
use std::fs;

use gw_tests::gateway::Gateway;
use gw_tests::guests;

const SOURCE: &str = "pypi:silero-vad==6.2.3#silero_vad/data/silero_vad.onnx";
const SHA256: &str = "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3";
/// Samples of one chunk: 32 ms.
const CHUNK: usize = 512;
const RATE: u16 = 16_000;

fn serve(folder: &tempfile::TempDir, device: &str) -> Gateway {
    let mut manifest = "[app]\nname = \"voice\"\nversion = \"0.1.0\"\n".to_owned();
    for (name, state) in [("kept", "state = { stateN = \"state\" }\n"), ("plain", "")] {
        let lines = format!("source = {SOURCE:?}\nsha256 = {SHA256:?}\n{state}");
        write!(manifest, "\n[[model]]\nname = {name:?}\n{lines}").expect("a string takes any text");
    }
    let plugin = guests::component("nn-script");
    write!(
        manifest,
        "\n[[plugin]]\nname = \"script\"\npath = {plugin:?}\nmodels = [\"kept\", \"plain\"]\n\
         limits = {{ time = \"1m\", memory = \"64MiB\" }}\n\
         \n[[route]]\npath = \"/script\"\nplugins = [\"script\"]\n"
    )
    .expect("a string takes any text");
    fs::write(folder.path().join("gw.toml"), manifest).expect("written");
    Gateway::dev(folder.path(), &["--no-watch", "--device", device])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes any text");
        text
    })
}

/// The lines that make a chunk of a rising tone, and the rate.
fn chunk(index: usize) -> String {
    let sample = |at: usize| {
        let time = at as f32 / f32::from(RATE);
        0.5 * (std::f32::consts::TAU * (150.0 + 400.0 * time) * time).sin()
    };
    let samples = (index * CHUNK..(index + 1) * CHUNK).map(sample);
    let samples: Vec<u8> = samples.flat_map(f32::to_le_bytes).collect();
    let rate = hex(&i64::from(RATE).to_le_bytes());
    format!("tensor\tFP32\t1,{CHUNK}\t{}\ntensor\tI64\t\t{rate}\n", hex(&samples))
}

/// What was shown, in order.
fn told(gateway: &Gateway, script: &str) -> Vec<String> {
    let answer = gateway.post("/script", script);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let shown = answer.body.lines().filter(|line| line.starts_with("TensorType"));
    let shown: Vec<String> = shown.map(str::to_owned).collect();
    assert!(!shown.is_empty(), "{}", answer.body);
    shown
}

/// The probabilities of `chunks`, by a context that is given no state. A chunk takes the tensors
/// `4 i` and `4 i + 1`, its outputs are the next two.
fn kept(gateway: &Gateway, chunks: &[usize]) -> Vec<String> {
    let mut script = "graph\tkept\ncontext\t0\n".to_owned();
    for (at, &index) in chunks.iter().enumerate() {
        let first = 4 * at;
        let (rate, output) = (first + 1, first + 2);
        script += &chunk(index);
        write!(script, "compute\t0\tinput\t{first}\tsr\t{rate}\nshow\t{output}\n")
            .expect("memory takes it");
    }
    told(gateway, &script)
}

/// The same where the script passes the state: zeros at first, then what the last chunk gave.
fn by_hand(gateway: &Gateway, chunks: &[usize]) -> Vec<String> {
    let zeros = format!("zeros*{}", 2 * 128 * size_of::<f32>());
    let mut script = format!("graph\tplain\ncontext\t0\ntensor\tFP32\t2,1,128\t{zeros}\n");
    for (at, &index) in chunks.iter().enumerate() {
        let state = 4 * at;
        let (input, rate, output) = (state + 1, state + 2, state + 3);
        script += &chunk(index);
        writeln!(script, "compute\t0\tinput\t{input}\tsr\t{rate}\tstate\t{state}")
            .expect("memory takes it");
        writeln!(script, "show\t{output}").expect("memory takes it");
    }
    told(gateway, &script)
}

fn hears_the_same_with_either(device: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = serve(&folder, device);
    let chunks = [0, 1, 2, 3];
    let together = kept(&gateway, &chunks);
    assert_eq!(together.len(), chunks.len());
    assert_eq!(together, by_hand(&gateway, &chunks));
    // Without what came before, a chunk sounds different.
    assert_ne!(kept(&gateway, &[3])[0], together[3]);
}

#[test]
fn a_kept_state_hears_what_one_passed_by_hand_does_on_the_cpu() {
    hears_the_same_with_either("cpu");
}

#[test]
fn a_kept_state_hears_what_one_passed_by_hand_does_on_the_gpu() {
    hears_the_same_with_either("llvmpipe");
}
