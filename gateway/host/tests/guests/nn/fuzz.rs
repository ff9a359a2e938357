//! Any sequence of calls: it is answered, or ends its own request, and never more.

use gw_host::{GuestError, HostConfig};
use proptest::prelude::*;

use super::{lines, script};
use crate::run;
use crate::support::{Node, ask};

/// A few places, so that things meet again, and some where nothing is.
fn place() -> impl Strategy<Value = String> {
    prop_oneof![8 => 0..6u32, 1 => any::<u32>()].prop_map(|at| at.to_string())
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just("x".to_owned()),
        1 => Just(String::new()),
        1 => "[^\t\n\r]{0,12}",
        1 => Just("x".repeat(1 << 16)),
    ]
}

fn size() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..4u32, 1 => any::<u32>()]
}

fn call() -> impl Strategy<Value = String> {
    let ty = prop::sample::select(vec!["FP16", "FP32", "FP64", "BF16", "U8", "I32", "I64"]);
    let sizes = prop_oneof![
        6 => prop::collection::vec(size(), 0..5).prop_map(|sizes| {
            sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
        }),
        1 => (0..1u32 << 16).prop_map(|rank| format!("ones*{rank}")),
    ];
    let data = prop_oneof![
        4 => (0..40u32).prop_map(|bytes| format!("zeros*{bytes}")),
        1 => (0..1u32 << 17).prop_map(|bytes| format!("zeros*{bytes}")),
    ];
    let inputs = prop::collection::vec((name(), place()), 0..3);
    let kind = prop::sample::select(vec!["graph", "context", "tensor"]);
    prop_oneof![
        2 => name().prop_map(|name| format!("graph\t{name}")),
        2 => Just("graph\tdouble".to_owned()),
        3 => place().prop_map(|at| format!("context\t{at}")),
        2 => Just("tensor\tFP32\t1,2\tzeros*8".to_owned()),
        2 => (ty, sizes, data).prop_map(|(ty, dims, data)| format!("tensor\t{ty}\t{dims}\t{data}")),
        4 => (place(), inputs).prop_map(|(at, inputs)| {
            let inputs = inputs.iter().map(|(name, tensor)| format!("\t{name}\t{tensor}"));
            format!("compute\t{at}{}", inputs.collect::<String>())
        }),
        2 => place().prop_map(|at| format!("show\t{at}")),
        1 => (kind, place()).prop_map(|(kind, at)| format!("drop\t{kind}\t{at}")),
        1 => (place(), 0..2000u32).prop_map(|(at, count)| format!("flood\t{at}\t{count}")),
        1 => Just("load\tonnx\tcpu\t0808".to_owned()),
    ]
}

#[test]
fn no_sequence_of_calls_reaches_beyond_its_request() {
    let node = Node::with(HostConfig { tensor_bytes_max: 1 << 20, ..HostConfig::default() });
    let plugin = script(&node, &[("double", &node.model)]);
    let calls = prop::collection::vec(call(), 0..24);
    let good = "tensor\tFP32\t1,1\t0000803f\ngraph\tdouble\ncontext\t0\ncompute\t0\tx\t0\nshow\t1";
    let config = ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() };
    proptest!(config, |(calls in calls)| {
        // Most sequences begin as a program would, so that they get further.
        let begin = "graph\tdouble\ncontext\t0\ntensor\tFP32\t1,1\t0000803f";
        run(async {
            for script in [calls.join("\n"), format!("{begin}\n{}", calls.join("\n"))] {
                let answered = match ask(&plugin, &script).await {
                    Ok(handled) => handled.response.status() == 200,
                    Err(error) => matches!(error, GuestError::Trap { .. }),
                };
                prop_assert!(answered);
            }
            let answer = lines(&plugin, good).await;
            prop_assert_eq!(&answer[4], "TensorType::Fp32 [1, 1] 00000040");
            Ok(())
        })?;
    });
}
