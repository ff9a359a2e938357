//! How a product reads packed weights that are narrower than `f32`.

use crate::compose::Composer;
use crate::gemm::Weights;
use crate::kernel::Scalar;

/// Declares `b` and how it is read; `false`, and nothing done, where its elements are `f32`.
pub(crate) fn b(composer: &mut Composer, weights: Weights) -> bool {
    let (step, load, four) = match weights {
        Weights::PackedI8 => (16, "load_b_bytes", "four_signed"),
        Weights::PackedU8 => (16, "load_b_bytes", "four_unsigned"),
        Weights::PackedF16 => (32, "load_b_halves", "four_halves"),
        Weights::PackedBf16 => (32, "load_b_halves", "four_brains"),
        Weights::Strided(_) | Weights::PackedF32 | Weights::Blocks { .. } => return false,
    };
    composer.read_fours("b", Scalar::U32).hook("load_b", load).hook("four_of", four);
    places(composer, step);
    true
}

/// Declares `b` as words of four bytes along k, of which a vec4 holds those of four columns.
pub(crate) fn words(composer: &mut Composer) {
    composer.read_fours("b", Scalar::U32);
    places(composer, 16);
}

/// Declares `b` of [`Weights::PackedF16`] as the adapter's own 16-bit floats.
pub(crate) fn native(composer: &mut Composer) {
    composer.enable_f16();
    composer.read("b", "vec4<f16>").hook("load_b", "load_b_native");
    places(composer, 32);
}

fn places(composer: &mut Composer, step: u32) {
    composer.source(include_str!("packed.wgsl"));
    composer.constant("B_STEP", step).hook("b_at", "b_at_fours");
}
