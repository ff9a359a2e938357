//! What the plans of real models take: `GW_REAL_MODELS` names a folder with one folder per model.
//! Without it the test passes with a message.

use gw_engine::plan::memory::{MemoryLimits, plan_memory};
use gw_engine::{Model, PlanOptions};
use gw_shaders::kernel::Caps;

use super::*;

/// The plan for one row, with 64 in every other free dimension; `None` where the model has no
/// plan for such a row.
fn plan(model: &Model) -> Option<Plan> {
    let mut shapes = BTreeMap::new();
    for port in &model.signature().inputs {
        let dims = port.dims.as_ref()?.iter().enumerate().map(|(axis, dim)| match dim {
            Dim::Fixed(size) => *size,
            Dim::Symbol(_) | Dim::Unknown => [1, 64][axis.min(1)],
        });
        shapes.insert(port.name.clone(), Shape::from(dims.collect::<Vec<_>>()));
    }
    model.plan(&shapes, &Caps::minimal(), &PlanOptions::default()).ok()
}

#[test]
fn real_models_take_little_more_than_what_is_alive_at_once() {
    let Some(folder) = std::env::var_os("GW_REAL_MODELS") else {
        eprintln!("skipped: GW_REAL_MODELS is not set");
        return;
    };
    let mut planned = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path().join("model.onnx");
        let Some(plan) = Model::open(&path).ok().and_then(|model| plan(&model)) else { continue };
        planned += 1;
        let memory = plan_memory(&plan, &MemoryLimits::default()).unwrap();
        let (arenas, live) = (memory.arena_bytes(), memory.live_bytes);
        eprintln!("{}: {arenas} bytes where {live} are alive at once", path.display());
        assert!(arenas <= live / 100 * 115 + (4 << 20), "{}: {arenas} of {live}", path.display());
    }
    assert!(planned >= 10, "only {planned} models were planned");
}
