//! wasi-nn as guests see it: snapshots, types, names, codes, models from bytes, and lies.

mod fuzz;
mod load;
mod state;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gw_artifact::ByteSize;
use gw_artifact::manifest::Limits;
use gw_host::{GuestError, HostConfig, Plugin, PluginSpec};
use gw_inference::Model;
use gw_tensor::{DType, Tensor};

use crate::double::{FLOAT, doubling};
use crate::run;
use crate::support::{Node, ask, lasting, text};

/// A plugin that calls as its request says, with some models.
fn script(node: &Node, models: &[(&str, &Arc<Model>)]) -> Arc<Plugin> {
    let models: HashMap<_, _> =
        models.iter().map(|&(name, model)| (name.to_owned(), Arc::clone(model))).collect();
    node.host.load(PluginSpec { models, ..roomy(node, "nn-script") }).expect("it loads")
}

/// A plugin with more memory and time than most here.
fn roomy(node: &Node, guest: &str) -> PluginSpec {
    let limits = Limits { memory: ByteSize(64 << 20), ..lasting(Duration::from_mins(1)) };
    PluginSpec { limits, ..node.spec(guest) }
}

/// What a script answers, line by line.
async fn lines(plugin: &Arc<Plugin>, script: &str) -> Vec<String> {
    text(plugin, script).await.lines().map(str::to_owned).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What the model answers without a guest.
async fn direct(model: &Model, input: &str, tensor: Tensor) -> Tensor {
    let deadline = Instant::now() + Duration::from_mins(1);
    let inference = model.infer(vec![(input.to_owned(), tensor)], deadline).await;
    inference.expect("an answer").outputs.remove(0).1
}

#[test]
fn older_snapshots_compute_what_the_newest_does() {
    let node = Node::start();
    let plugin = node.host.load(roomy(&node, "older-snapshots"));
    let plugin = plugin.expect("two snapshots link at once");
    run(async {
        let input = Tensor::from_slice([1, 3], &[1f32, 2.5, -3.0]).expect("a tensor");
        let once = direct(&node.model, "x", input).await;
        let twice = direct(&node.model, "x", once.clone()).await;
        let shown = |tensor: &Tensor| {
            let numbers: Vec<String> =
                tensor.to_vec::<f32>().expect("floats").iter().map(f32::to_string).collect();
            format!("Ok(\"TensorType::Fp32 [1, 3] {}\")", numbers.join(" "))
        };
        let expected = [
            "output before compute: Err(ErrorCode::RuntimeError)".to_owned(),
            "compute without input: Err(ErrorCode::InvalidArgument)".to_owned(),
            "unknown input: Err(ErrorCode::InvalidArgument)".to_owned(),
            "lie: Err(ErrorCode::InvalidArgument)".to_owned(),
            "input: Ok(())".to_owned(),
            "input again: Ok(())".to_owned(),
            "compute: Ok(())".to_owned(),
            "unknown output: Err(ErrorCode::InvalidArgument)".to_owned(),
            format!("output: {}", shown(&once)),
            format!("output: {}", shown(&once)),
            "feed: Ok(())".to_owned(),
            "compute: Ok(())".to_owned(),
            format!("output: {}", shown(&twice)),
            "compute: Ok(())".to_owned(),
            format!("output: {}", shown(&twice)),
            "ungranted: Err(ErrorCode::NotFound)".to_owned(),
        ];
        for snapshot in ["2024-06-25", "2024-08-19"] {
            let answer = text(&plugin, &format!("{snapshot} 1 2.5 -3")).await;
            let mut lines: Vec<_> = answer.lines().collect();
            if snapshot == "2024-06-25" {
                let own = lines.pop();
                assert_eq!(own, Some("own error: ErrorCode::Security made here"));
            }
            assert_eq!(lines, expected, "{snapshot}");
        }
    });
}

#[test]
fn every_tensor_type_goes_in_and_comes_out() {
    struct Case(&'static str, u8, DType, &'static [u8]);
    // -1.5 and 3 in each type; 255 and 3 where there is no sign.
    let cases = [
        Case("FP16", 10, DType::F16, &[0x00, 0xbe, 0x00, 0x42]),
        Case("FP32", FLOAT, DType::F32, &[0, 0, 0xc0, 0xbf, 0, 0, 0x40, 0x40]),
        Case("FP64", 11, DType::F64, &[0, 0, 0, 0, 0, 0, 0xf8, 0xbf, 0, 0, 0, 0, 0, 0, 0x08, 0x40]),
        Case("BF16", 16, DType::Bf16, &[0xc0, 0xbf, 0x40, 0x40]),
        Case("U8", 2, DType::U8, &[255, 3]),
        Case("I32", 6, DType::I32, &[0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0]),
        Case(
            "I64",
            7,
            DType::I64,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0, 0, 0, 0, 0],
        ),
    ];
    let node = Node::start();
    for Case(ty, elements, dtype, data) in cases {
        let model = node.model(ty, &doubling(elements, "x", "y"));
        let plugin = script(&node, &[(ty, &model)]);
        let call = format!(
            "tensor\t{ty}\t1,2\t{}\ngraph\t{ty}\ncontext\t0\nshow\t0\ncompute\t0\tx\t0\nshow\t1",
            hex(data)
        );
        run(async {
            let lines = lines(&plugin, &call).await;
            let input = Tensor::new(dtype, [1, 2], data.to_vec()).expect("a tensor");
            let output = direct(&model, "x", input).await;
            assert_eq!(output.dtype(), dtype);
            let name = format!("{}{}", &ty[..1], ty[1..].to_lowercase());
            let shown = |data: &[u8]| format!("TensorType::{name} [1, 2] {}", hex(data));
            assert_eq!(lines[3], shown(data), "the guest's own tensor");
            assert_eq!(lines[4], "y=1");
            assert_eq!(lines[5], shown(output.bytes()));
            assert_ne!(lines[3], lines[5], "it was doubled");
        });
    }
}

#[test]
fn names_of_models_and_tensors_are_kept_exactly() {
    let node = Node::start();
    let (x, y) = ("输入/α:0 ", "Résultat:0/é");
    let model = node.model("x", &doubling(FLOAT, x, y));
    let names = ["modèle/v1:latest", "modèle/v1:latest ", "a\u{301}", "0"];
    let granted: Vec<_> = names.iter().map(|&name| (name, &model)).collect();
    let plugin = script(&node, &granted);
    run(async {
        for name in names {
            let call = format!("tensor\tFP32\t1,1\t0000803f\ngraph\t{name}\ncontext\t0\n");
            let good = lines(&plugin, &format!("{call}compute\t0\t{x}\t0\nshow\t1")).await;
            assert_eq!(good[3..], [format!("{y}=1"), "TensorType::Fp32 [1, 1] 00000040".into()]);
            // Neither trimmed nor composed, nor taken for a number.
            for other in [x.trim_end(), "0", "输入/α:0\u{a0}"] {
                let bad = lines(&plugin, &format!("{call}compute\t0\t{other}\t0")).await;
                assert_eq!(bad[3], "ErrorCode::InvalidArgument", "{other:?}");
            }
        }
        for other in ["modèle/v1", "MODÈLE/v1:latest", "\u{e1}", "x", ""] {
            let answer = lines(&plugin, &format!("graph\t{other}")).await;
            assert_eq!(answer, ["ErrorCode::NotFound"], "{other:?}");
        }
    });
}

#[test]
fn every_mistake_in_a_call_has_its_code() {
    struct Case(&'static str, &'static str, &'static str);
    let cases = [
        Case("a model that is not granted", "graph\tdoubl", "NotFound"),
        Case("no input", "compute\t0", "InvalidArgument"),
        Case("an empty name", "compute\t0\t\t0", "InvalidArgument"),
        Case(
            "a name twice",
            "tensor\tFP32\t1,1\t00000000\ncompute\t0\tx\t0\tx\t1",
            "InvalidArgument",
        ),
        Case("another type", "tensor\tI32\t1,1\t00000000\ncompute\t0\tx\t1", "InvalidArgument"),
        Case("another rank", "tensor\tFP32\t1\t00000000\ncompute\t0\tx\t1", "InvalidArgument"),
        Case("too few bytes", "tensor\tFP32\t1,2\t00000000\ncompute\t0\tx\t1", "InvalidArgument"),
        Case("too many bytes", "tensor\tFP32\t1,1\tzeros*5\ncompute\t0\tx\t1", "InvalidArgument"),
        Case(
            "a product beyond 64 bits",
            "tensor\tFP32\t4294967295,4294967295,4294967295\t00000000\ncompute\t0\tx\t1",
            "InvalidArgument",
        ),
        Case(
            "no element by a product beyond 64 bits",
            "tensor\tFP32\t4294967295,4294967295,4294967295,0\t\ncompute\t0\tx\t1",
            "InvalidArgument",
        ),
        Case(
            "a million dimensions",
            "tensor\tFP32\tones*1000000\t00000000\ncompute\t0\tx\t1",
            "InvalidArgument",
        ),
        Case("too much at once", "tensor\tU8\t1\tzeros*9000000\ncompute\t0\tx\t1", "TooLarge"),
        Case("bytes without a grant", "load\tonnx\tcpu\t0808", "Security"),
    ];
    let config = HostConfig { tensor_bytes_max: 8 << 20, ..HostConfig::default() };
    let node = Node::with(config);
    let plugin = script(&node, &[("double", &node.model)]);
    run(async {
        for Case(mistake, calls, code) in cases {
            let call = format!("tensor\tFP32\t1,1\t0000803f\ngraph\tdouble\ncontext\t0\n{calls}");
            let lines = lines(&plugin, &call).await;
            assert_eq!(lines.last(), Some(&format!("ErrorCode::{code}")), "{mistake}: {lines:?}");
        }
    });
}

#[test]
fn tensors_give_back_what_they_took() {
    // Ten numbers and two dimensions: 48 bytes, of which two fit.
    let node = Node::with(HostConfig { tensor_bytes_max: 100, ..HostConfig::default() });
    let plugin = script(&node, &[("double", &node.model)]);
    let tensor = "tensor\tFP32\t1,10\tzeros*40";
    run(async {
        let calls = [
            ("graph\tdouble", "graph"),
            ("context\t0", "context"),
            (tensor, "tensor"),
            // An input makes room for its output.
            ("compute\t0\tx\t0", "y=1"),
            (tensor, "tensor"),
            ("compute\t0\tx\t2", "y=3"),
            (tensor, "tensor"),
            ("show\t4", "TensorType::Fp32 [] "),
            ("compute\t0\tx\t4", "ErrorCode::TooLarge"),
            ("drop\ttensor\t1", "dropped"),
            (tensor, "tensor"),
            ("compute\t0\tx\t5", "y=6"),
        ];
        let (calls, expected): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        assert_eq!(lines(&plugin, &calls.join("\n")).await, expected);
    });
}

#[test]
fn a_handle_that_is_gone_ends_its_own_request() {
    let made = "tensor\tFP32\t1,1\t0000803f\ngraph\tdouble\ncontext\t0\n";
    let gone = [
        "drop\ttensor\t0\nshow\t0",
        "drop\ttensor\t0\ndrop\ttensor\t0",
        "drop\ttensor\t0\ncompute\t0\tx\t0",
        "compute\t0\tx\t0\tx\t0",
        "drop\tcontext\t0\ncompute\t0",
        "drop\tgraph\t0\ncontext\t0",
        "show\t4000000000",
        "drop\tgraph\t4000000000",
        "flood\t0\t1000000",
    ];
    let node = Node::start();
    let plugin = script(&node, &[("double", &node.model)]);
    run(async {
        for calls in gone {
            let error = ask(&plugin, &format!("{made}{calls}")).await.expect_err(calls);
            assert!(matches!(error, GuestError::Trap { .. }), "{calls:?}: {error}");
            // A graph may go while its context stays, and so may the tensors of others.
            let fine = format!("{made}drop\tgraph\t0\ncompute\t0\tx\t0\nshow\t1");
            let lines = lines(&plugin, &fine).await;
            assert_eq!(lines.last().map(String::as_str), Some("TensorType::Fp32 [1, 1] 00000040"));
        }
    });
}

#[test]
fn a_guest_that_traps_for_want_of_an_answer_is_not_at_fault() {
    let node = Node::start();
    let plugin = script(&node, &[("double", &node.model)]);
    let traps = async |input: &str| {
        let made = "tensor\tFP32\t1,1\t0000803f\ngraph\tdouble\ncontext\t0";
        let script = format!("{made}\ncompute\t0\t{input}\t0\npanic");
        ask(&plugin, &script).await.expect_err("it panics")
    };
    run(async {
        let error = traps("x").await;
        assert!(matches!(error, GuestError::Trap { .. }), "the model answered: {error}");
        let error = traps("z").await;
        assert!(matches!(error, GuestError::Trap { .. }), "it asked wrongly: {error}");
        node.models.drain().await;
        let error = traps("x").await;
        assert!(matches!(error, GuestError::Inference { .. }), "{error}");
        assert!(!error.is_the_plugins());
    });
}
