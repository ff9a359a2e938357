//! Whatever a model says and whatever shapes it gets, planning it gives a sound plan or an error.
#![no_main]

use std::collections::BTreeMap;

use bytes::Bytes;
use gw_engine::graph::Dim;
use gw_engine::{Model, PlanOptions};
use gw_shaders::kernel::Caps;
use gw_tensor::Shape;
use libfuzzer_sys::fuzz_target;

/// Sizes at edges: empty, one, around tiles, and one that is large for a model of a few nodes.
const SIZES: [usize; 8] = [0, 1, 2, 3, 5, 17, 64, 4097];

// The last byte picks the sizes of free dimensions and whether nodes are fused.
fuzz_target!(|file: &[u8]| {
    let Some((&choice, file)) = file.split_last() else { return };
    let Ok(model) = Model::parse(Bytes::copy_from_slice(file), "fuzz") else { return };
    let mut shapes = BTreeMap::new();
    let mut next = usize::from(choice >> 1);
    for port in &model.signature().inputs {
        let Some(dims) = &port.dims else { continue };
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => *size,
            // One name has one size.
            Dim::Symbol(_) => SIZES[usize::from(choice >> 1) % SIZES.len()],
            Dim::Unknown => {
                next += 1;
                SIZES[next % SIZES.len()]
            }
        };
        let shape: Vec<usize> = dims.iter().map(size).collect();
        shapes.insert(port.name.clone(), Shape::from(shape));
    }
    let options = PlanOptions { fuse: choice & 1 == 1, ..PlanOptions::default() };
    if let Ok(plan) = model.plan(&shapes, &Caps::minimal(), &options) {
        plan.verify().expect("a plan is sound");
    }
});
