//! `gw infer`, `gw plan` and `gw bench` on tiny models, and what they refuse.

use crate::{Ended, User, exists, onnx};

/// A `.npy` file of version 1.0.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(header.len()).expect("a short header").to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

fn floats(values: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    npy("<f4", &format!("({}, 3)", values.len() / 3), &data)
}

/// `gw infer` of the addition on the CPU, with the two inputs as given.
fn add(user: &User, inputs: &[&str]) -> Ended {
    let model = user.write("add.onnx", onnx::model("Add"));
    let mut args = vec!["infer", &model, "--device", "cpu", "--out", "results"];
    for input in inputs {
        args.extend(["--input", input]);
    }
    user.gw(&args)
}

#[test]
fn a_model_runs_on_tensors_from_files() {
    let user = User::new();
    user.write("a.npy", floats(&[1.0, 2.0, 3.0]));
    user.write("run=1/b.npy", floats(&[10.0, 20.0, 30.0]));
    let said = add(&user, &["a=a.npy", "in:b/0=run=1/b.npy"]).done();
    assert!(said.out.contains("out:c/0: f32 [1, 3] -> results/out_c_0.npy"), "{}", said.out);
    let written = std::fs::read(user.path("results/out_c_0.npy")).unwrap();
    let sum: Vec<u8> = [11f32, 22.0, 33.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(written.ends_with(&sum) && written.starts_with(b"\x93NUMPY"));
}

#[test]
fn without_inputs_the_signature_is_printed() {
    let user = User::new();
    let model = user.write("add.onnx", onnx::model("Add"));
    let said = user.gw(&["infer", &model]).done();
    insta::assert_snapshot!(said.out, @r"
    inputs:
      a: f32 [batch, 3]
      in:b/0: f32 [batch, 3]
    outputs:
      out:c/0: f32 [batch, 3]
    ");
    let json = user.gw(&["infer", &model, "-o", "json"]).done().json();
    assert_eq!(json["inputs"][0]["dims"], serde_json::json!(["batch", 3]));
}

#[test]
fn a_run_without_its_inputs_is_a_mistake() {
    let user = User::new();
    add(&user, &[]).refused(2, &["--input is missing", "a: f32 [batch, 3], in:b/0", "hint:"]);
    assert!(!exists(&user.path("results")));
}

#[test]
fn inputs_that_do_not_fit_are_refused_by_name() {
    let user = User::new();
    user.write("a.npy", floats(&[1.0, 2.0, 3.0]));
    user.write("two.npy", floats(&[1.0; 6]));
    user.write("flat.npy", npy("<f4", "(3,)", &[0; 12]));
    user.write("ints.npy", npy("<i8", "(1, 3)", &[0; 24]));
    user.write("cut.npy", npy("<f4", "(1000, 1000)", &[0; 12]));
    user.write("words.npy", npy("<U4", "(1,)", &[0; 16]));
    let cases: [(&str, i32, &[&str]); 8] = [
        ("b=a.npy", 1, &["no input \"b\"", "a, in:b/0"]),
        ("in:b/0=flat.npy", 1, &["in:b/0", "[batch, 3]", "[3]"]),
        ("in:b/0=two.npy", 1, &["in:b/0", "batch"]),
        ("in:b/0=ints.npy", 1, &["in:b/0", "f32", "i64"]),
        ("in:b/0=cut.npy", 1, &["cut.npy", "truncated"]),
        ("in:b/0=words.npy", 1, &["words.npy"]),
        ("in:b/0=gone.npy", 2, &["in:b/0", "gone.npy"]),
        ("a.npy", 2, &["NAME=FILE.npy"]),
    ];
    for (input, code, texts) in cases {
        add(&user, &["a=a.npy", input]).refused(code, texts);
    }
    add(&user, &["a=a.npy"]).refused(1, &["in:b/0", "missing"]);
    assert!(!exists(&user.path("results")), "nothing is written for a run that was refused");
}

#[test]
fn what_is_no_model_is_refused() {
    let user = User::new();
    let whole = onnx::model("Add");
    let noise = user.write("noise.onnx", "this is not a model, whatever its name says");
    let cut = user.write("cut.onnx", &whole[..whole.len() / 2]);
    let empty = user.write("empty.onnx", "");
    for model in [&noise, &cut, &empty] {
        for command in ["infer", "plan", "bench"] {
            let said = user.gw(&[command, model]);
            said.refused(1, &[model.rsplit('/').next().unwrap().trim_end_matches(".onnx")]);
        }
    }
    for command in ["infer", "plan", "bench"] {
        user.gw(&[command, "gone.onnx"]).refused(1, &["there is no file gone.onnx", "hint:"]);
    }
}

#[test]
fn an_operator_that_nobody_has_is_named() {
    let user = User::new();
    let model = user.write("odd.onnx", onnx::model("Frobnicate"));
    user.gw(&["plan", &model]).refused(1, &["Frobnicate", "the_node"]);
    user.gw(&["bench", &model, "--device", "cpu"]).refused(1, &["Frobnicate"]);
}

#[test]
fn a_plan_is_listed_without_running_it() {
    let user = User::new();
    let model = user.write("add.onnx", onnx::model("Add"));
    let plan = user.gw(&["plan", &model, "--shape", "a=4x3", "-o", "json"]).done().json();
    assert_eq!(plan["dispatches"], 1);
    assert_eq!(plan["steps"].as_array().map(Vec::len), Some(1));
    assert_eq!(plan["weight_bytes"], 0);
    assert!(plan["arena_bytes"].is_u64());
    let text = user.gw(&["plan", &model, "--shape", "a=4x3"]).done();
    assert!(text.out.contains("the_node"), "{}", text.out);
    assert!(!text.err.contains("note:"), "every dimension is given: {}", text.err);
}

#[test]
fn a_plan_says_why_it_is_as_it_is() {
    let user = User::new();
    let model = user.write("add.onnx", onnx::model("Add"));
    let args = ["plan", &model, "--shape", "a=4x3", "--why"];
    let text = user.gw(&args).done().out;
    assert!(text.contains("computes the_node (Add)") && text.contains("variant: "), "{text}");
    let plan = user.gw(&[&args[..], &["-o", "json"]].concat()).done().json();
    assert_eq!(plan["steps"][0]["nodes"][0]["op"], "Add");
    assert!(plan["steps"][0]["choice"]["reason"].is_string(), "{plan}");
    assert_eq!(plan["elsewhere"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_value_that_decides_the_plan_is_asked_for_and_taken() {
    let user = User::new();
    let model = user.write("reshape.onnx", onnx::model("Reshape"));
    let shape = ["plan", &model, "--shape", "a=1x3"];
    user.gw(&shape).refused(1, &["hint: ", "--value in:b/0="]);
    let given = [&shape[..], &["--value", "in:b/0=1,1,3"]].concat();
    assert!(user.gw(&given).done().out.contains("1 dispatches"));
    let short = [&shape[..], &["--value", "in:b/0=1,3"]].concat();
    user.gw(&short).refused(2, &["--value in:b/0: 2 elements for the shape [1, 3]"]);
    user.gw(&["bench", &model, "--value", "x=1"]).refused(1, &["no input \"x\""]);
}

#[test]
fn open_dimensions_are_one_and_said_so() {
    let user = User::new();
    let model = user.write("add.onnx", onnx::model("Add"));
    let said = user.gw(&["plan", &model]).done();
    assert!(said.err.contains("a[0] (batch)"), "{}", said.err);
    user.gw(&["plan", &model, "--shape", "x=1x3"]).refused(1, &["no input \"x\"", "a, in:b/0"]);
    user.gw(&["plan", &model, "--shape", "a=1x4"]).refused(1, &["a: f32 [batch, 3]", "[1, 4]"]);
}

#[test]
fn bench_prints_its_figures() {
    let user = User::new();
    let model = user.write("add.onnx", onnx::model("Add"));
    let args = ["bench", &model, "--device", "cpu", "--shape", "a=2x3", "--runs", "5"];
    let figures = user.gw(&[&args[..], &["-o", "json"]].concat()).done().json();
    for key in ["load_ms", "first_ms", "median_ms", "p10_ms", "p90_ms"] {
        assert!(figures[key].as_f64().is_some_and(|ms| ms >= 0.0), "{key}: {figures}");
    }
    assert_eq!(figures["adapter"], "cpu");
    assert!(figures["p10_ms"].as_f64() <= figures["p90_ms"].as_f64());
    user.gw(&args).done();
}

#[test]
fn a_profile_lists_steps_and_writes_a_trace() {
    let user = User::new();
    let model = user.write("add.onnx", onnx::model("Add"));
    let args = ["bench", &model, "--device", "noop", "--runs", "5", "--profile"];
    let said = user.gw(&[&args[..], &["--trace", "run.json", "-o", "json"]].concat()).done();
    let profile = &said.json()["profile"];
    let step = &profile["steps"][0];
    assert_eq!((&step["flops"], &step["bytes"]), (&3.into(), &36.into()), "{step}");
    for key in ["upload_us", "encode_us", "submit_us", "wait_us", "read_back_us", "total_us"] {
        assert!(profile["phases"][key].as_f64().is_some_and(|us| us >= 0.0), "{key}: {profile}");
    }
    assert!(profile["encode_us_per_dispatch"].as_f64().is_some_and(|us| us > 0.0), "{profile}");
    let trace = std::fs::read(user.path("run.json")).unwrap();
    let trace: serde_json::Value = serde_json::from_slice(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    // Three names, five phases, one step.
    assert_eq!(events.len(), 3 + 5 + 1, "{trace}");
    let text = user.gw(&args).done();
    assert!(text.out.contains("all steps") && text.out.contains("by family: "), "{}", text.out);
    let cpu = ["bench", &model, "--device", "cpu", "--profile"];
    user.gw(&cpu).refused(2, &["no steps to profile", "hint:"]);
    user.gw(&["bench", &model, "--trace", "run.json"]).refused(2, &["--profile"]);
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let user = User::new();
    let model = user.write("add.onnx", onnx::model("Add"));
    for command in ["bench", "plan"] {
        let said = user.gw(&[command, &model, "--device", "no such adapter"]);
        said.refused(1, &["no such adapter"]);
    }
}
