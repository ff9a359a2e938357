//! Models from file to answer: what plans look like, and that they say what the model says.
//!
//! Without a Vulkan adapter what needs one passes with a message, unless `GW_REQUIRE_GPU=1`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "helpers of tests fail loudly and say what was skipped"
)]

#[path = "models/ops/bytes.rs"]
mod bytes;
#[path = "models/sessions/cache.rs"]
mod cache;
#[path = "models/ops/channels.rs"]
mod channels;
#[path = "support/device.rs"]
mod device;
#[path = "models/dynamic.rs"]
mod dynamic;
#[path = "models/folding.rs"]
mod folding;
#[path = "models/fusions/rules.rs"]
mod fusions;
#[path = "models/independent.rs"]
mod independent;
#[path = "models/ops/index.rs"]
mod index;
#[path = "models/sessions/kept.rs"]
mod kept;
#[path = "models/learned.rs"]
mod learned;
#[path = "models/fusions/masks.rs"]
mod masks;
#[path = "models/minilm.rs"]
mod minilm;
#[path = "models/fusions/narrow.rs"]
mod narrow;
#[path = "models/onnx.rs"]
mod onnx;
#[path = "models/ops/operators.rs"]
mod operators;
#[path = "models/parts.rs"]
mod parts;
#[path = "models/ops/quant.rs"]
mod quant;
#[path = "models/ops/recurrent.rs"]
mod recurrent;
#[path = "models/rows.rs"]
mod rows;
#[path = "models/run.rs"]
mod run;
#[path = "models/shapes.rs"]
mod shapes;
#[path = "models/ops/signal.rs"]
mod signal;
#[path = "models/fusions/table.rs"]
mod table;
#[path = "models/sessions/tune.rs"]
mod tune;
#[path = "models/turns.rs"]
mod turns;
#[path = "models/fusions/why.rs"]
mod why;
#[path = "models/ops/windows.rs"]
mod windows;
