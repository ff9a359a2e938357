//! Many requests at once: mixed good and bad ones, and a thousand that are the same.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::embed::{embed, floats};
use crate::input::refusals;
use gw_tests::connection::Connection;
use gw_tests::figures::serving::soak::Soak;
use gw_tests::gateway::{Answer, Gateway};
use gw_tests::random::Random;
use gw_tests::reference::{Embedding, cosine, embed_now};
use gw_tests::repo;

const CONNECTIONS: usize = 16;

/// What texts are made of: English, French, Chinese, Japanese, Korean, Arabic and emoji.
const WORDS: &[&str] = &[
    "the",
    "cat",
    "sales",
    "rose",
    "quickly",
    "unbelievable",
    "o'clock",
    "3.14",
    "gateway",
    "WebGPU",
    "le",
    "chat",
    "déjà",
    "été",
    "où",
    "garçon",
    "l'hôtel",
    "naïve",
    "cœur",
    "aujourd'hui",
    "猫",
    "東京",
    "今日は",
    "天気",
    "销售额",
    "上升",
    "고양이",
    "안녕하세요",
    "مرحبا",
    "שלום",
    "🙂",
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🚀🚀",
    "e\u{301}",
    "ﬁne",
    "№5",
    "—",
    "…",
    "[MASK]",
];

/// Texts at which tokenizers differ.
const ODD: &[&str] = &[
    "",
    " ",
    "\n\t\r",
    "a",
    "?!",
    "[CLS] [SEP] [PAD]",
    "\u{0}null\u{7f}",
    "\u{200b}zero\u{feff}",
    "ＦＵＬＬ ＷＩＤＴＨ",
    "ÀÉÎÕÜ ß İ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "<script>alert(1)</script>",
    "\"quoted\\\"",
    "1 234 567,89 €",
    "👍🏽",
    "𝒜𝓁𝓅𝒽𝒶",
];

/// A pool of texts, and good requests for them.
struct Good {
    texts: Vec<String>,
    requests: Vec<GoodRequest>,
}

struct GoodRequest {
    body: String,
    /// Which texts it asks for, in order.
    texts: Vec<usize>,
}

impl Good {
    /// `count` requests, no two of them equal.
    fn new(count: usize) -> Self {
        let mut random = Random(2_000);
        let odd = ODD.iter().map(|&text| text.to_owned());
        let mut texts: Vec<String> = odd.collect();
        // Half of the requests are one of these alone.
        let long = texts.len() + count;
        while texts.len() < long {
            let words = random.between(1, 8);
            texts.push(text(&mut random, words));
        }
        // Up to the 512 tokens that the model takes, and past them.
        for index in 0..count / 20 {
            let words = if index % 3 == 0 { 500 } else { random.between(30, 120) };
            texts.push(text(&mut random, words));
        }
        // Each odd and each long text alone, then lists of every length.
        let alone = (0..ODD.len()).chain(long..texts.len()).map(|text| vec![text]);
        let mut lists: Vec<Vec<usize>> = alone.collect();
        lists.push((0..64).collect());
        while lists.len() < count {
            let mut list = |count| (0..count).map(|_| random.below(long)).collect::<Vec<_>>();
            let next = match lists.len() % 40 {
                0 => list(64),
                1..=4 => list(12),
                5..=16 => list(6),
                17..=18 => [list(2), vec![random.between(long, texts.len() - 1)]].concat(),
                _ => list(1),
            };
            // Some texts came alone before.
            if !lists.contains(&next) {
                lists.push(next);
            }
        }
        let requests = lists.into_iter().enumerate().map(|(index, list)| {
            let given: Vec<&str> = list.iter().map(|&text| texts[text].as_str()).collect();
            // A single text may come as one or in a list.
            let input = match given.as_slice() {
                [text] if index % 4 != 0 => json!(text),
                _ => json!(given),
            };
            GoodRequest { body: json!({ "input": input }).to_string(), texts: list }
        });
        let requests = requests.collect();
        Self { texts, requests }
    }
}

fn text(random: &mut Random, words: usize) -> String {
    let words: Vec<_> = (0..words).map(|_| WORDS[random.below(WORDS.len())]).collect();
    words.join(" ")
}

/// Checks an answer by what ONNX Runtime and the Python tokenizer say; gives the worst cosine.
fn check(answer: &Answer, texts: &[usize], expected: &[Embedding], body: &str) -> f64 {
    assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    let answer = answer.json();
    let expected: Vec<&Embedding> = texts.iter().map(|&text| &expected[text]).collect();
    let tokens: u64 = expected.iter().map(|text| text.tokens).sum();
    assert_eq!(answer["usage"]["tokens"], tokens, "{body}");
    let cut = expected.iter().enumerate().filter(|(_, text)| text.truncated);
    let cut: Vec<usize> = cut.map(|(index, _)| index).collect();
    let said = if cut.is_empty() { Value::Null } else { json!(cut) };
    assert_eq!(answer["truncated"], said, "{body}");
    let embeddings = answer["embeddings"].as_array().expect("a list");
    assert_eq!(embeddings.len(), expected.len(), "{body}");
    let cosines = embeddings.iter().zip(expected).map(|(given, expected)| {
        let given = floats(given);
        let length = given.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() < 1e-4, "unit length, not {length}: {body}");
        cosine(&given, &expected.embedding)
    });
    let worst = cosines.fold(1.0, f64::min);
    assert!(worst >= 0.9999, "cosine {worst} to ONNX Runtime: {body}");
    worst
}

/// The example on a node where nothing comes too late: a software adapter on a busy machine takes
/// half a minute for the longest request, and this asks whether it is right.
fn patient(device: &str, folder: &Path) -> Gateway {
    let app = repo().join("examples/01-embed");
    let text = fs::read_to_string(app.join("gw.toml")).expect("it is there");
    let (plugin, route) = ("path = \"../../plugins/embed\"", "plugins = [\"embed\"]");
    assert!(text.contains(plugin) && text.contains(route), "{text}");
    let text = text
        .replace(plugin, &format!("path = {:?}", repo().join("plugins/embed")))
        .replace(route, &format!("{route}\ntimeout = \"10m\""));
    fs::write(folder.join("gw.toml"), text).expect("written");
    let config = folder.join("gateway.toml");
    let limits = "[plugins]\ndevice_time_max = \"10m\"\n\n[inference]\nwait_max = \"10m\"\n";
    fs::write(&config, limits).expect("written");
    let config = config.to_str().expect("a temporary path is text");
    Gateway::dev(folder, &["--no-watch", "--device", device, "--config", config])
}

/// Sends `count` requests, three in ten of them bad, on so many connections.
fn all_are_answered_right(device: &str, connections: usize, count: usize, distinct: usize) {
    let good = Good::new(distinct);
    let expected = embed_now(&good.texts).expect("ONNX Runtime runs");
    let refusals = refusals();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = patient(device, folder.path());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut connection = Connection::open(&gateway.url);
        let (mut worst, mut refused, mut oversize) = (1.0f64, 0, 0);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                // Only what refuses a body unread may end a connection.
                assert!(connection.opened() <= 1 + oversize, "{}", connection.opened());
                return (worst, refused);
            }
            let (turn, place) = (index / 10, index % 10);
            if place < 7 {
                let request = &good.requests[(turn * 7 + place) % distinct];
                let answer = connection.send("POST", "/embed", request.body.as_bytes());
                worst = worst.min(check(&answer, &request.texts, &expected, &request.body));
            } else {
                let refusal = &refusals[(turn * 3 + place - 7) % refusals.len()];
                let answer = connection.send(refusal.method, refusal.path, &refusal.body);
                refusal.check(&answer);
                refused += 1;
                oversize += usize::from(refusal.status == 413);
            }
        }
    };
    let results: Vec<(f64, usize)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("every answer is right")).collect()
    });
    let worst = results.iter().map(|(worst, _)| *worst).fold(1.0, f64::min);
    let refused: usize = results.iter().map(|(_, refused)| refused).sum();
    assert_eq!(refused, count * 3 / 10);
    assert_eq!(gateway.metric("gw_http_requests_total", &["code=\"5"]), 0.0);
    println!("{device}: {count} requests, {distinct} good ones, {refused} bad; cosine {worst:.7}");
}

#[test]
fn two_thousand_mixed_requests_on_sixteen_connections_are_all_answered_right() {
    all_are_answered_right("cpu", CONNECTIONS, 2000, 700);
}

/// A software adapter takes several times as long, so there are fewer of them.
#[test]
fn four_hundred_mixed_requests_on_a_gpu_adapter_are_all_answered_right() {
    // Of four connections none waits in line for as long as its client reads at most.
    all_are_answered_right("llvmpipe", 4, 400, 140);
}

/// Sends the last byte of each request when all the others are there, so that all of them miss
/// before the first can be answered.
fn a_thousand_misses_run_once(device: &str) {
    const CALLERS: u32 = 1000;
    let gateway = embed(device);
    // Long enough to compute that the last of them is read meanwhile.
    let texts: Vec<_> =
        (0..4).map(|index| format!("{index} {}", "stampede ".repeat(400))).collect();
    let body = json!({ "input": texts }).to_string();
    let warm = gateway.post("/embed", &json!({ "input": "warm" }).to_string());
    assert_eq!(warm.status, 200, "{}", warm.body);
    // A long request may run in parts, so rows are counted: a text is one.
    let counts = || {
        ["gw_plugin_requests_total", "gw_infer_requests_total", "gw_batch_rows_sum"]
            .map(|name| gateway.metric(name, &[]))
    };
    let before = counts();
    assert!(before.iter().all(|count| *count >= 1.0), "the counters are there: {before:?}");

    let mut callers: Vec<_> = (0..CALLERS).map(|_| Connection::open(&gateway.url)).collect();
    for caller in &mut callers {
        caller.begin("/embed", body.as_bytes());
    }
    for caller in &mut callers {
        caller.finish(body.as_bytes());
    }
    let answers: Vec<Answer> = callers.iter_mut().map(Connection::receive).collect();

    let first = &answers[0];
    assert_eq!(first.status, 200, "{}", first.body);
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == first.body));
    let count = |status| {
        answers.iter().filter(|answer| answer.header("cache-status").ends_with(status)).count()
    };
    let (made, waited) = (count("fwd=miss; stored"), count("fwd=miss; stored; collapsed"));
    assert_eq!((made, waited), (1, 999), "all of them miss, one of them asks");
    let after = counts();
    assert_eq!([0, 1, 2].map(|index| after[index] - before[index]), [1.0, 1.0, 4.0]);
}

#[test]
fn a_thousand_identical_misses_run_the_model_once() {
    a_thousand_misses_run_once("cpu");
}

#[test]
fn a_thousand_identical_misses_run_the_model_once_on_a_gpu_adapter() {
    a_thousand_misses_run_once("llvmpipe");
}

/// The figure `soak` runs the same for 30 minutes.
#[test]
fn a_node_at_rest_holds_what_it_held_before_models_came_failed_and_went() {
    let soak = Soak::run(Duration::from_secs(45)).expect("all is answered as it was asked for");
    assert!(soak.answered > 0 && soak.failed > 0 && soak.left > 0, "{soak:?}");
    assert!(soak.loads > 6.0, "models make room for others: {soak:?}");
    assert!(soak.is_steady(), "{soak:?}");
    // So short a warm-up has not met everything; what leaks in each request is far more.
    let [.., before, last] = &soak.rests[..] else { panic!("{soak:?}") };
    assert!(last.resident_kib < before.resident_kib / 4 * 5, "{soak:?}");
}
