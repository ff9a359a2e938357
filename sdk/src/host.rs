//! What is behind the host's interfaces: the node, or in native tests the one of
//! [`crate::testing`]. Both sides have the same functions and types.

#[cfg(not(target_arch = "wasm32"))]
mod fake;
#[cfg(target_arch = "wasm32")]
mod node;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::fake::*;
#[cfg(target_arch = "wasm32")]
pub(crate) use self::node::*;
