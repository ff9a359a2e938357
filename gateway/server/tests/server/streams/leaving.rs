//! Clients that leave over HTTP/1.1 and over HTTP/2, in the middle of an answer and while their
//! plugin waits for a model.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use gw_artifact::Digest;
use gw_artifact::bundle::{BundleContent, BundledModel};
use gw_inference::InferenceConfig;
use gw_server::ServerConfig;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Wire, post, start};
use crate::node::{Node, guests, send};

type Pieces = StreamBody<UnboundedReceiver<Result<Frame<Bytes>, Infallible>>>;

/// Longer than what should come at once takes; shorter than the guests wait.
const SOON: Duration = Duration::from_secs(40);

/// One HTTP/2 connection; a dropped answer resets its stream.
#[derive(Clone)]
struct Client {
    sender: SendRequest<Pieces>,
    origin: String,
}

impl Client {
    async fn connect(node: &Node) -> Self {
        let stream = TokioIo::new(TcpStream::connect(node.address).await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        Self { sender, origin: format!("http://{}", node.address) }
    }

    /// The body of an answer whose head is there and good.
    async fn post(&mut self, path: &str, wish: &str, body: Pieces) -> Incoming {
        let request = http::Request::post(format!("{}{path}", self.origin))
            .header("x-do", wish)
            .body(body)
            .unwrap();
        let answer = self.sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body()
    }
}

fn piped() -> (UnboundedSender<Result<Frame<Bytes>, Infallible>>, Pieces) {
    let (pieces, body) = unbounded();
    (pieces, StreamBody::new(body))
}

fn whole(text: &str) -> Pieces {
    let (pieces, body) = piped();
    pieces.unbounded_send(Ok(Frame::data(text.to_owned().into()))).unwrap();
    body
}

async fn next(body: &mut Incoming) -> Bytes {
    let frame = timeout(SOON, body.frame()).await.expect("a piece comes");
    frame.expect("it goes on").unwrap().into_data().expect("data")
}

async fn all(body: Incoming) -> Bytes {
    timeout(SOON, body.collect()).await.expect("it ends").unwrap().to_bytes()
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_its_guest_and_no_other_on_its_connection() {
    let node = start().await;
    let mut client = Client::connect(&node).await;
    let (pieces, body) = piped();
    pieces.unbounded_send(Ok(Frame::data("begin".into()))).unwrap();
    let mut stays = client.post("/stream", "echo", body).await;
    assert_eq!(next(&mut stays).await, "begin");
    // Four instances in all; each of these would wait for a minute.
    for turn in 0..6 {
        let leaves = timeout(SOON, client.post("/stream", "wait", whole(""))).await;
        let mut leaves = leaves.expect("there is room");
        assert_eq!(next(&mut leaves).await, "first");
        drop(leaves);
        let piece = Bytes::from(format!("piece {turn}"));
        pieces.unbounded_send(Ok(Frame::data(piece.clone()))).unwrap();
        assert_eq!(next(&mut stays).await, piece);
    }
    drop(pieces);
    assert_eq!(all(stays).await, "", "nothing else, and a good end");
    // Only the scrape itself is left.
    let left = async {
        while node.metric("gw_http_in_flight").await > 1.5 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, left).await.expect("all guests are gone");
}

const MANIFEST: &str = r#"
[app]
name = "leaving"
version = "0.1.0"

[[model]]
name = "double"
source = "slow.onnx"

[[plugin]]
name = "good"
path = "good.wasm"
models = ["double"]

[[plugin]]
name = "moody"
path = "moody.wasm"

[[route]]
path = "/double"
plugins = ["good"]
timeout = "10m"

[[route]]
path = "/moody"
plugins = ["moody"]
"#;

/// A model of this many ones takes some 100 GFLOP: seconds of one thread.
const SIZE: usize = 2048;
/// What is squared so often.
const SQUARINGS: usize = 6;

/// An ONNX file of `y = x + x·P` over `f32 [1, n]`, where P is `xᵀ·x / SIZE` squared [`SQUARINGS`]
/// times. For [`SIZE`] ones P is its own square, exactly, so they are doubled, slowly. It cannot
/// join requests: its first dimension is fixed.
fn slow() -> Vec<u8> {
    let named = |name: &str| field(1, &field(2, name.as_bytes()));
    let shape = [field(1, &number(1, 1)), named("n")].concat();
    let tensor = [number(1, 1), field(2, &shape)].concat();
    let value = |name: &str| [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat();
    let scale = (SIZE as f32).recip().to_le_bytes();
    let scale = [number(2, 1), field(8, b"scale"), field(9, &scale)].concat();
    let mut nodes = vec![
        node("Transpose", &["x"], "column"),
        node("MatMul", &["column", "x"], "outer"),
        node("Mul", &["outer", "scale"], "p0"),
    ];
    for turn in 0..SQUARINGS {
        let p = format!("p{turn}");
        nodes.push(node("MatMul", &[&p, &p], &format!("p{}", turn + 1)));
    }
    nodes.push(node("MatMul", &["x", &format!("p{SQUARINGS}")], "projected"));
    nodes.push(node("Add", &["x", "projected"], "y"));
    let nodes: Vec<u8> = nodes.iter().flat_map(|node| field(1, node)).collect();
    let ends = [field(5, &scale), field(11, &value("x")), field(12, &value("y"))].concat();
    let graph = [nodes, field(2, b"slow"), ends].concat();
    [number(1, 8), field(7, &graph), field(8, &number(2, 17))].concat()
}

fn node(op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|input| field(1, input.as_bytes()));
    inputs.chain(field(2, output.as_bytes())).chain(field(4, op.as_bytes())).collect()
}

/// A field of protocol buffers: its number, its length, its bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    let mut length = bytes.len();
    while length >= 128 {
        field.push(length.to_le_bytes()[0] | 128);
        length >>= 7;
    }
    field.push(length.to_le_bytes()[0]);
    field.extend_from_slice(bytes);
    field
}

fn number(tag: u8, value: u8) -> Vec<u8> {
    vec![tag << 3, value]
}

async fn start_slow() -> Node {
    // One thread: another is left for what happens meanwhile.
    let inference =
        InferenceConfig { cpu_threads: std::num::NonZeroUsize::new(1), ..Default::default() };
    let node = Node::empty_with(ServerConfig::default(), inference).await;
    let onnx = slow();
    let model = BundledModel {
        name: "double".to_owned(),
        digest: Digest::of(&onnx),
        bytes: Some(onnx.into()),
    };
    let component = |guest: &str| (guest.to_owned(), guests::component(guest));
    let content = BundleContent {
        manifest_text: MANIFEST.to_owned(),
        plugins: vec![component("good"), component("moody")],
        assets: Vec::new(),
        models: vec![model],
    };
    node.install(MANIFEST, content).await;
    node
}

/// The requests to the model that ended in this way.
fn ended(outcome: &str) -> String {
    let labels = format!("{{model=\"double\",device=\"cpu\",outcome=\"{outcome}\"}}");
    format!("gw_infer_requests_total{labels}")
}

async fn reaches(node: &Node, series: &str, least: f64) {
    let reached = async {
        while node.metric(series).await < least - 0.1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, reached).await.unwrap_or_else(|_| panic!("{series} does not reach {least}"));
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_inference_out_of_the_queue() {
    let node = start_slow().await;
    let ones = vec!["1"; SIZE].join(" ");
    let twos = vec!["2"; SIZE].join(" ");
    let client = Client::connect(&node).await;
    // Two that stay: one runs, and one waits behind it.
    let first = send(node.address, "POST", "/double", &[], ones.clone().into());
    let first = tokio::spawn(first);
    let ask = || {
        let (mut client, body) = (client.clone(), whole(&ones));
        tokio::spawn(async move {
            let body = client.post("/double", "", body).await;
            body.collect().await.unwrap().to_bytes()
        })
    };
    let second = ask();
    let waiting = "gw_queue_depth{model=\"double\",device=\"cpu\"}";
    reaches(&node, waiting, 1.0).await;
    // Two that will leave hold the last of the four places.
    let mut wire = Wire::open(&node).await;
    let length = format!("content-length: {}\r\n", ones.len());
    wire.write(&format!("{}{ones}", post("/double", &length))).await;
    let stream = ask();
    reaches(&node, waiting, 3.0).await;

    drop(wire);
    stream.abort();
    // Their places are free while the first still runs, and their inferences are given up.
    let quick = timeout(SOON, node.post("/moody", "hello")).await;
    assert_eq!(quick.expect("there is room").body, "hello");
    reaches(&node, &ended("cancelled"), 2.0).await;
    let done = node.metric(&ended("ok")).await;
    assert!(done < 0.1, "the model was too fast to tell what waited from what ran: {done}");

    assert_eq!(first.await.unwrap().body, twos);
    assert_eq!(second.await.unwrap(), twos);
    // What was asked last runs last: all before it has run by now, or never will.
    assert_eq!(node.post("/double", "1 1").await.body, "1 1", "too few ones are not doubled");
    let runs = node.metric("gw_batch_rows_count{model=\"double\",device=\"cpu\"}").await;
    assert!((runs - 3.0).abs() < 0.1, "{runs}");
    assert!((node.metric(&ended("ok")).await - 3.0).abs() < 0.1);
    assert!((node.metric(&ended("cancelled")).await - 2.0).abs() < 0.1);
    assert!(node.metric(waiting).await < 0.1);
}
