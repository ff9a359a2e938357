//! Which functions of `state.wgsl` read what a step needs, and where its states lie.

use super::{Projection, Spec};
use crate::compose::Composer;

/// Declares the projections and the recurrent weights, all gates of a unit at once.
pub(super) fn readers(composer: &mut Composer, spec: &Spec) {
    let (element, gates, [x, r, w, first]) = match spec.cell.gates() {
        1 => ("f32", "f32", ["read_x_one", "read_r_one", "read_w_one", "first_one"]),
        3 => {
            let names = ["read_x_three", "read_r_three", "read_w_three", "first_three"];
            ("f32", "vec3<f32>", names)
        }
        _ => {
            let names = ["read_x_four", "read_r_four", "read_w_four", "first_four"];
            ("vec4<f32>", "vec4<f32>", names)
        }
    };
    composer.text(&format!("alias Gates = {gates};\n")).hook("read_r", r);
    match spec.projection {
        Some(Projection { width, bias }) => {
            composer.u32("width", width).read("x", "f32").read("w", element);
            composer.hook("read_x", "read_x_product").hook("read_w", w);
            composer.hook("first_sums", if bias { first } else { "first_none" });
            if bias {
                composer.read("bias", element);
            }
        }
        None => {
            composer.read("x", element).hook("read_x", x);
        }
    }
    composer.read("r", element);
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
