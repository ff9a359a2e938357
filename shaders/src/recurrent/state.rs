//! Which functions of `state.wgsl` read what a step needs, and where its states lie.

use super::{Projection, Spec};
use crate::compose::Composer;

/// Declares the projections and the recurrent weights, all gates of a unit at once.
pub(super) fn readers(composer: &mut Composer, spec: &Spec) {
    let gates = match spec.cell.gates() {
        1 => "f32",
        3 => "vec3<f32>",
        _ => "vec4<f32>",
    };
    composer.text(&format!("alias Gates = {gates};\n"));
    match spec.projection {
        Some(Projection { width, bias }) => {
            composer.u32("width", width).read("x", "f32").hook("read_x", "read_x_product");
            reader(composer, "read_w", "w", gates);
            if bias {
                reader(composer, "first_sums", "bias", gates);
            } else {
                composer.hook("first_sums", "first_none");
            }
        }
        None => reader(composer, "read_x", "x", gates),
    }
    reader(composer, "read_r", "r", gates);
}

/// Declares a buffer and the function that reads the gates of one unit from it.
fn reader(composer: &mut Composer, function: &str, buffer: &str, gates: &str) {
    // Three floats side by side are no element of a buffer.
    let (element, value) = match gates {
        "vec3<f32>" => {
            let value = [0, 1, 2].map(|gate| format!("{buffer}[3u * at + {gate}u]")).join(", ");
            ("f32", format!("vec3({value})"))
        }
        gates => (gates, format!("{buffer}[at]")),
    };
    composer.read(buffer, element);
    composer.text(&format!("fn {function}(at: u32) -> Gates {{\n    return {value};\n}}\n"));
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
