//! Models with state: each execution context adds up by itself, whatever it speaks.

use std::collections::HashMap;
use std::sync::Arc;

use gw_host::PluginSpec;

use super::{lines, roomy, script};
use crate::run;
use crate::support::{Node, ask, text};

/// The line of a script that makes a tensor of one number.
fn number(number: f32) -> String {
    format!("tensor\tFP32\t1,1\t{}\n", super::hex(&number.to_le_bytes()))
}

/// How a script shows one number.
fn shown(number: f32) -> String {
    format!("TensorType::Fp32 [1, 1] {}", super::hex(&number.to_le_bytes()))
}

#[test]
fn a_context_adds_up_until_it_is_given_a_state() {
    let node = Node::start();
    let plugin = script(&node, &[("add", &node.adding())]);
    // Two contexts, and the numbers 1, 2, 4, 8 and 100 as tensors 0 to 4; answers follow.
    let made = [1.0, 2.0, 4.0, 8.0, 100.0].map(number).concat();
    let calls = format!(
        "graph\tadd\ncontext\t0\ncontext\t0\n{made}\
         compute\t0\tx\t0\nshow\t5\n\
         compute\t0\tx\t1\nshow\t6\n\
         compute\t1\tx\t2\nshow\t7\n\
         compute\t0\ty\t5\n\
         compute\t0\tx\t3\nshow\t8\n\
         compute\t0\tx\t6\th\t4\nshow\t9\n\
         compute\t0\tx\t7\nshow\t10"
    );
    run(async {
        let lines = lines(&plugin, &calls).await;
        let (failed, answers): (Vec<_>, Vec<_>) =
            lines[8..].iter().partition(|line| line.starts_with("ErrorCode"));
        assert_eq!(failed, ["ErrorCode::InvalidArgument"], "no input `y`");
        let answers: Vec<&String> =
            answers.into_iter().filter(|line| line.starts_with("TensorType")).collect();
        let due = [1.0, 3.0, 4.0, 11.0, 103.0, 107.0].map(shown);
        assert_eq!(answers, due.iter().collect::<Vec<_>>());
        // The next request has contexts of its own.
        let calls = format!("graph\tadd\ncontext\t0\n{}compute\t0\tx\t0\nshow\t1", number(5.0));
        assert_eq!(super::lines(&plugin, &calls).await.last(), Some(&shown(5.0)));
    });
}

#[test]
fn older_snapshots_and_hooks_have_state_too() {
    let node = Node::start();
    let add = node.adding();
    let load = |guest: &str| {
        let models = HashMap::from([("double".to_owned(), Arc::clone(&add))]);
        node.host.load(PluginSpec { models, ..roomy(&node, guest) }).expect("it loads")
    };
    let (older, hooked) = (load("older-snapshots"), load("hooked"));
    run(async {
        for snapshot in ["2024-06-25", "2024-08-19"] {
            let answer = text(&older, &format!("{snapshot} 1 2.5")).await;
            let outputs: Vec<_> =
                answer.lines().filter(|line| line.contains("output: Ok")).collect();
            // Twice from the first context; from the second it adds the first's answer twice.
            let due = ["1 2.5", "1 2.5", "1 2.5", "2 5"]
                .map(|numbers| format!("output: Ok(\"TensorType::Fp32 [1, 2] {numbers}\")"));
            assert_eq!(outputs, due, "{snapshot}");
        }
        for _ in 0..2 {
            let handled = ask(&hooked, "3 4").await.expect("an answer");
            assert_eq!(handled.response.body(), "3 4", "each question of hooks begins with zeros");
        }
    });
}
