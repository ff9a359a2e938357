//! Model file to graph to plan to device.
pub mod graph;
pub mod plan;
