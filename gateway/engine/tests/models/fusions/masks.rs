//! What hides keys from an attention: masks that it reads, masks that it makes, windows.

use gw_engine::PlanOptions;
use gw_tensor::Tensor;

use crate::onnx::{BOOL, FLOAT, INT64, Onnx, Value};
use crate::run::{floats, kernels, plan};
use crate::table::becomes;

/// Attention of four heads over keys and values of `kv`, as exporters write it.
fn attention(kv: i64, mask: &str, file: Onnx) -> Onnx {
    let mut file = file
        .input("q", FLOAT, &[2, 4, 5, 8])
        .floats("scale", &[], &[0.3])
        .ints("together", &[2, 5, 32]);
    for name in ["k", "v"] {
        let (one, many, heads) = (format!("{name} 1"), format!("{name} n"), format!("{name} h"));
        file = file
            .input(name, FLOAT, &[2, kv, 5, 8])
            .ints(&format!("{name} axis"), &[2])
            .ints(&format!("{name} wide"), &[2, kv, 4 / kv, 5, 8])
            .ints(&format!("{name} heads"), &[2, 4, 5, 8])
            .node("Unsqueeze", &[name, &format!("{name} axis")], &one)
            .node("Expand", &[&one, &format!("{name} wide")], &many)
            .node("Reshape", &[&many, &format!("{name} heads")], &heads);
    }
    let turned = |perm: [i64; 4]| [("perm", Value::Ints(perm.to_vec()))];
    file = file
        .node_with("Transpose", &["k h"], "k t", &turned([0, 1, 3, 2]))
        .node("MatMul", &["q", "k t"], "scores")
        .node("Mul", &["scores", "scale"], "scaled");
    let masked = if mask.is_empty() { "scaled" } else { "masked" };
    if !mask.is_empty() {
        file = file.node("Add", &["scaled", mask], "masked");
    }
    file.node("Softmax", &[masked], "shares")
        .node("MatMul", &["shares", "v h"], "heads")
        .node_with("Transpose", &["heads"], "rows", &turned([0, 2, 1, 3]))
        .node("Reshape", &["rows", "together"], "y")
        .output("y")
}

/// What `attention` of four heads becomes: the families, and how the last one is specialised.
fn attends(name: &str, file: &Onnx, more: &[(String, Tensor)], due: &[&str], variant: &str) {
    let mut inputs = more.to_vec();
    inputs.extend(["q", "k", "v"].map(|name| floats(name, &[2, 4, 5, 8])));
    becomes(name, file, &inputs, due);
    let plan = plan(&file.model(), &inputs, PlanOptions::default());
    let given = &plan.steps.last().unwrap().dispatch.kernel.variant;
    assert!(given.ends_with(variant), "{name}: {given}");
}

/// `seen [1, 1, 5, 5]`: the own key and two before it, as positions are compared.
fn positions(file: Onnx) -> Onnx {
    file.ints("places", &[0, 1, 2, 3, 4])
        .ints("zero", &[0])
        .ints("reach", &[-3])
        .ints("row", &[0, 1, 2])
        .ints("column", &[0, 1, 3])
        .node("Unsqueeze", &["places", "row"], "keys")
        .node("Unsqueeze", &["places", "column"], "queries")
        .node("Sub", &["keys", "queries"], "distance")
        .node("LessOrEqual", &["distance", "zero"], "before")
        .node("Greater", &["distance", "reach"], "near")
        .node("And", &["before", "near"], "seen")
}

#[test]
fn a_mask_that_positions_alone_decide_is_a_window() {
    let low = |hidden: f32| {
        positions(Onnx::new(17)).floats("none", &[], &[0.0]).floats("low", &[], &[hidden]).node(
            "Where",
            &["seen", "none", "low"],
            "mask",
        )
    };
    for hidden in [f32::NEG_INFINITY, f32::MIN] {
        let file = attention(4, "mask", low(hidden));
        attends("a window", &file, &[], &["attention"], "rows of 8, window");
    }
    let causal: Vec<f32> =
        (0..25).map(|at| if at % 5 > at / 5 { f32::NEG_INFINITY } else { 0.0 }).collect();
    let file = attention(4, "mask", Onnx::new(17).floats("mask", &[5, 5], &causal));
    attends("causal", &file, &[], &["attention"], "rows of 8, causal");
    let nothing = attention(4, "mask", Onnx::new(17).floats("mask", &[1, 5], &[0.0; 5]));
    attends("nothing", &nothing, &[], &["attention"], "rows of 8");
    // A number that is not as good as nothing is a bias.
    let file = attention(4, "mask", low(-2.0));
    attends("a bias", &file, &[], &["attention"], "rows of 8, additive mask");
}

#[test]
fn a_window_is_taken_out_of_the_mask_that_padding_makes() {
    let padding = |file: Onnx| {
        file.input("padding", INT64, &[2, 5])
            .ints("each", &[1, 2])
            .floats("none", &[], &[0.0])
            .node("Unsqueeze", &["padding", "each"], "by key")
            .node_with("Cast", &["by key"], "real", &[("to", Value::Int(BOOL.into()))])
    };
    let real = |first: i64| {
        let real = Tensor::from_slice([2, 5], &[first, 0, 1, 1, 1, 1, 1, 1, 1, 0]).unwrap();
        [("padding".to_owned(), real)]
    };
    let mask = |low: f32| {
        padding(positions(Onnx::new(17)))
            .floats("low", &[], &[low])
            .node("And", &["seen", "real"], "both")
            .node("Where", &["both", "none", "low"], "mask")
    };
    let file = attention(4, "mask", mask(f32::NEG_INFINITY));
    let made = "rows of 8, additive mask made here, window";
    attends("padding", &file, &real(1), &["attention"], made);
    // With a low number a query that sees nothing has the mean of all values.
    let file = attention(4, "mask", mask(f32::MIN));
    attends("a low number", &file, &real(0), &["pointwise", "attention"], ", additive mask");
}

#[test]
fn attention_is_one_dispatch_whatever_its_mask_and_groups() {
    let grid = |hides: fn(usize, usize) -> bool| -> Vec<f32> {
        let hidden = |at: usize| if hides(at / 5, at % 5) { f32::NEG_INFINITY } else { 0.0 };
        (0..25).map(hidden).collect()
    };
    let causal = grid(|query, key| key > query);
    let window = grid(|query, key| key > query || key + 2 < query);
    for kv in [4, 2, 1] {
        let mut inputs = vec![floats("q", &[2, 4, 5, 8])];
        for name in ["k", "v"] {
            inputs.push(floats(name, &[2, usize::try_from(kv).unwrap(), 5, 8]));
        }
        let plain = attention(kv, "", Onnx::new(17));
        becomes("no mask", &plain, &inputs, &["attention"]);
        for (name, mask) in [("causal", &causal), ("window", &window)] {
            let file = Onnx::new(17).floats("mask", &[1, 1, 5, 5], mask);
            becomes(name, &attention(kv, "mask", file), &inputs, &["attention"]);
        }
        let padding: Vec<f32> = (0..10).map(|at| if at > 6 { -1e4 } else { 0.0 }).collect();
        let padding = Tensor::from_slice([2, 1, 1, 5], &padding).unwrap();
        inputs.insert(0, ("mask".to_owned(), padding));
        let file = Onnx::new(17).input("mask", FLOAT, &[2, 1, 1, 5]);
        becomes("padding", &attention(kv, "mask", file), &inputs, &["attention"]);
    }
}

#[test]
fn a_local_window_of_grouped_queries_needs_no_mask_and_no_step() {
    // The first four tokens of two entries, and the next one of each.
    for (length, past) in [(4, 0), (1, 4)] {
        let names = ["q", "k", "v", "past k", "past v", "last", "total"];
        let file = |more: &[(&str, Value)]| {
            let heads = [("num_heads", Value::Int(4)), ("kv_num_heads", Value::Int(2))];
            let attributes = [&heads, more].concat();
            Onnx::new(17)
                .input("q", FLOAT, &[2, length, 64])
                .input("k", FLOAT, &[2, length, 32])
                .input("v", FLOAT, &[2, length, 32])
                .input("past k", FLOAT, &[2, 2, past, 16])
                .input("past v", FLOAT, &[2, 2, past, 16])
                .input("last", INT64, &[2])
                .ints("total", &[length + past])
                .node_with("com.microsoft.GroupQueryAttention", &names, "y,,", &attributes)
                .output("y")
        };
        let (tokens, held) = (length as usize, past as usize);
        let last = Tensor::from_slice([2], &[length + past - 1, length + past - 2]).unwrap();
        let inputs = [
            floats("q", &[2, tokens, 64]),
            floats("k", &[2, tokens, 32]),
            floats("v", &[2, tokens, 32]),
            floats("past k", &[2, 2, held, 16]),
            floats("past v", &[2, 2, held, 16]),
            ("last".to_owned(), last),
        ];
        let due = kernels(&plan(&file(&[]).model(), &inputs, PlanOptions::default()));
        let windowed = file(&[("local_window_size", Value::Int(2))]);
        becomes("groups", &windowed, &inputs, &due);
        let plan = plan(&windowed.model(), &inputs, PlanOptions::default());
        let given = &plan.steps.last().unwrap().dispatch.kernel.variant;
        assert!(given.ends_with("rows of 16, window, counted keys"), "{given}");
    }
}
