//! The engine on what other people wrote: ONNX's node tests and real models.

use gw_engine::{AdapterSelect, Device, Model};
use gw_tests::agreement::{Place, measure, models};
use gw_tests::conformance::report::Report;
use gw_tests::conformance::{Options, page, run};
use gw_tests::repo;

/// One case in this many is a fast sample; `conformance` runs the whole.
const EVERY: usize = 5;

/// Of the output's range: single precision in another order leaves some 1e-5 at most, and the
/// logarithms of basic-pitch and the thresholds of a detector ten times that.
const ERROR_MAX: f64 = 1e-3;

fn has_adapter() -> bool {
    let open = Device::open(&AdapterSelect::Named("llvmpipe".to_owned()));
    if let Err(error) = &open {
        let required = std::env::var("GW_REQUIRE_GPU").is_ok_and(|value| value == "1");
        assert!(!required, "GW_REQUIRE_GPU is set: {error}");
    }
    open.is_ok()
}

#[test]
fn a_sample_of_the_node_tests_has_no_wrong_answer() {
    if !has_adapter() {
        return;
    }
    let options = Options { device: "llvmpipe".to_owned(), every: EVERY, ..Options::default() };
    let report = Report::of(&run(&options, &|_, _| {}).unwrap());
    assert!(report.failures.is_empty(), "wrong: {:#?}", report.failures);
    // 95 of 100 pass on the whole: fewer is a regression.
    let passed = report.counts.passed * 100 / report.total;
    assert!(passed >= 93, "only {passed} % of {} pass", report.total);
}

/// All of them, without an adapter: the plans are the same, the kernels are not.
#[test]
fn the_interpreter_has_no_wrong_answer_in_the_node_tests() {
    let options = Options { device: "interpreter".to_owned(), ..Options::default() };
    let report = Report::of(&run(&options, &|_, _| {}).unwrap());
    assert!(report.failures.is_empty(), "wrong: {:#?}", report.failures);
    let passed = report.counts.passed * 100 / report.total;
    assert!(passed >= 95, "only {passed} % of {} pass", report.total);
}

#[test]
fn the_page_of_operators_is_that_of_the_registry() {
    let page = std::fs::read_to_string(repo().join("gateway/engine/OPS.md")).unwrap();
    assert!(
        page.contains(&page::operators()),
        "write it anew: cargo run --release -p gw-tests --bin conformance -- --write-ops"
    );
}

/// Every model on the CPU, by whoever runs it there: one set of inputs each.
#[test]
fn real_models_agree_with_onnx_runtime_on_the_cpu() {
    let place = Place::open("cpu", true).unwrap();
    let mut faults = Vec::new();
    for case in models().unwrap() {
        let row = measure(&case.first(), &place);
        if row.worst > ERROR_MAX {
            faults.push(format!(
                "{}: {:.2e} {}",
                row.model,
                row.worst,
                row.error.unwrap_or_default()
            ));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Those that may run in batches, by the shapes of their inputs.
const IN_BATCHES: [&str; 18] = [
    "basic-pitch",
    "esrgan-x2",
    "esrgan-x3",
    "esrgan-x4",
    "esrgan-x8",
    "gbdt",
    "lite0",
    "minilm-f32",
    "minilm-int8",
    "mlp",
    "mtcnn-onet",
    "mtcnn-pnet",
    "mtcnn-rnet",
    "ocr-cls",
    "ocr-det",
    "ocr-rec",
    "open-nsfw",
    "resemblyzer",
];

#[test]
fn real_models_are_batched_where_their_rows_are_independent() {
    let mut shown = Vec::new();
    for case in models().unwrap() {
        let Ok(model) = Model::open(&case.model()) else { continue };
        let set = case.first().sets().unwrap().remove(0);
        let names = model.signature().inputs.iter().map(|input| input.name.clone());
        let shapes = names.zip(set.inputs.iter().map(|input| input.shape().clone())).collect();
        if model.rows_are_independent(&shapes) {
            shown.push(case.name);
        }
    }
    shown.sort();
    assert_eq!(shown, IN_BATCHES);
}

/// Every model, fused and plain, against ONNX Runtime: one set of inputs each.
#[test]
fn real_models_agree_with_onnx_runtime_fused_and_plain() {
    if !has_adapter() {
        return;
    }
    let mut faults = Vec::new();
    for fuse in [true, false] {
        let place = Place::open("llvmpipe", fuse).unwrap();
        for case in models().unwrap() {
            let row = measure(&case.first(), &place);
            if row.worst > ERROR_MAX {
                let reason = row.error.unwrap_or_default();
                let plan = if fuse { "fused" } else { "plain" };
                faults.push(format!("{} {plan}: {:.2e} {reason}", row.model, row.worst));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
