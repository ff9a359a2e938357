//! Every variant of every kernel family on a real adapter, against the family's reference.
//!
//! Without a Vulkan adapter the tests pass with a message, unless `GW_REQUIRE_GPU=1` is set.

#[path = "kernels/attention.rs"]
mod attention;
#[path = "kernels/conv.rs"]
mod conv;
#[path = "kernels/gather.rs"]
mod gather;
#[path = "kernels/gemm.rs"]
mod gemm;
#[path = "kernels/harness.rs"]
mod harness;
#[path = "kernels/index.rs"]
mod index;
#[path = "kernels/pointwise.rs"]
mod pointwise;
#[path = "kernels/rows.rs"]
mod rows;
#[path = "kernels/window.rs"]
mod window;
