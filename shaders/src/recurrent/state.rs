//! Which functions of `state.wgsl` read what a step needs, and where its states lie.

use super::Cell;
use crate::compose::Composer;

/// Declares the projections and the recurrent weights, all gates of a unit at once.
pub(super) fn readers(composer: &mut Composer, cell: Cell) {
    let (element, gates, suffix) = match cell.gates() {
        1 => ("f32", "f32", ["read_x_one", "read_r_one"]),
        3 => ("f32", "vec3<f32>", ["read_x_three", "read_r_three"]),
        _ => ("vec4<f32>", "vec4<f32>", ["read_x_four", "read_r_four"]),
    };
    composer.text(&format!("alias Gates = {gates};\n"));
    composer.hook("read_x", suffix[0]).hook("read_r", suffix[1]);
    composer.read("x", element).read("r", element);
}

/// Lets states lie in workgroup memory for so many `units`, else in the result.
pub(super) fn keepers(composer: &mut Composer, units: Option<u32>) {
    let in_result = ["get_in_result", "set_in_result", "get_in_result", "set_in_result"];
    let shared = ["get_state_shared", "set_state_shared", "get_reset_shared", "set_reset_shared"];
    let (access, sync) =
        if units.is_some() { (shared, "sync_shared") } else { (in_result, "sync_in_result") };
    let names = ["get_state", "set_state", "get_reset", "set_reset"];
    for (name, with) in names.into_iter().zip(access) {
        composer.hook(name, with);
    }
    composer.hook("sync", sync);
    composer.constant("STATE", units.unwrap_or(1));
}
