//! Every variant of every kernel family on a real adapter, against the family's reference.
//!
//! Without a Vulkan adapter the tests pass with a message, unless `GW_REQUIRE_GPU=1` is set.
#![allow(clippy::print_stderr, unreachable_pub, reason = "a skipped test says why")]

#[path = "kernels/attention.rs"]
mod attention;
#[path = "kernels/conv.rs"]
mod conv;
#[path = "kernels/counted"]
mod counted {
    mod build;
    mod families;
}
#[path = "support/device.rs"]
mod device;
#[path = "kernels/gather.rs"]
mod gather;
#[path = "kernels/gemm.rs"]
mod gemm;
#[path = "support/harness.rs"]
mod harness;
#[path = "kernels/index.rs"]
mod index;
#[path = "kernels/counted/peak.rs"]
mod peak;
#[path = "kernels/points.rs"]
mod points;
#[path = "kernels/pointwise.rs"]
mod pointwise;
#[path = "kernels/recurrent.rs"]
mod recurrent;
#[path = "kernels/resample.rs"]
mod resample;
#[path = "kernels/rows.rs"]
mod rows;
#[path = "kernels/turns.rs"]
mod turns;
#[path = "kernels/window.rs"]
mod window;
