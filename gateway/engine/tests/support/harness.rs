//! Runs dispatches and compares what they leave with what is due.

use gw_engine::Device;
use gw_shaders::data::Data;
use gw_shaders::kernel::{Caps, Dispatch, Unsupported};

/// How far a float may be off.
#[derive(Clone, Copy)]
pub(crate) struct Tolerance {
    /// In parts of the expected value.
    pub(crate) relative: f32,
    /// Whatever the expected value.
    pub(crate) absolute: f32,
}

impl Tolerance {
    /// Copies and whole numbers.
    pub(crate) const EXACT: Self = Self { relative: 0.0, absolute: 0.0 };

    pub(crate) const fn of(relative: f32, absolute: f32) -> Self {
        Self { relative, absolute }
    }
}

/// Runs every variant that the adapter allows, as hardware and as software, and compares every
/// output. OpenGL stands for small hardware, so kernels by themselves are asked for its variants;
/// those for software are asked by whole models there, and by all else on other adapters.
pub(crate) fn agree(
    variants: impl Fn(&Caps) -> Result<Vec<Dispatch>, Unsupported>,
    inputs: &[Data],
    outputs: &[Data],
    tolerance: Tolerance,
) {
    let Some(device) = crate::device::shared() else { return };
    let caps = device.caps();
    let hardware = Caps { software: false, ..caps };
    let software = (device.info().backend != "gl").then_some(Caps { software: true, ..caps });
    let mut seen: Vec<Dispatch> = Vec::new();
    for caps in [hardware].into_iter().chain(software) {
        for dispatch in variants(&caps).expect("the spec is supported") {
            if !seen.contains(&dispatch) {
                compare(&device, &dispatch, inputs, outputs, tolerance);
                seen.push(dispatch);
            }
        }
    }
}

/// Runs every variant that the adapter allows as what it is, where that decides whether a variant
/// is right; `None` where there is no adapter.
pub(crate) fn agree_here(
    variants: impl Fn(&Caps) -> Result<Vec<Dispatch>, Unsupported>,
    inputs: &[Data],
    outputs: &[Data],
    tolerance: Tolerance,
) -> Option<()> {
    let device = crate::device::shared()?;
    for dispatch in variants(&device.caps()).expect("the spec is supported") {
        compare(&device, &dispatch, inputs, outputs, tolerance);
    }
    Some(())
}

fn compare(
    device: &Device,
    dispatch: &Dispatch,
    inputs: &[Data],
    outputs: &[Data],
    tolerance: Tolerance,
) {
    let mut buffers: Vec<Vec<u8>> = inputs.iter().map(|data| data.bytes().to_vec()).collect();
    buffers.extend(outputs.iter().map(|data| vec![0; 4 * data.len()]));
    // An empty buffer must still hold one element of what the shader declares, at most a vec4.
    for buffer in &mut buffers {
        buffer.resize(buffer.len().max(16), 0);
    }
    let kernel = &dispatch.kernel;
    let name = format!("{} ({})", kernel.name, kernel.variant);
    let left = device
        .run_dispatch(dispatch, &buffers)
        .unwrap_or_else(|error| panic!("{name}: {error}\n{}", kernel.source));
    for (expected, bytes) in outputs.iter().zip(&left[inputs.len()..]) {
        let given = Data::from_bytes(expected.scalar(), &bytes[..4 * expected.len()]);
        let (Data::F32(given), Data::F32(expected)) = (&given, expected) else {
            assert_eq!(&given, expected, "{name}");
            continue;
        };
        for (index, (&given, &expected)) in given.iter().zip(expected).enumerate() {
            let bound = tolerance.relative * expected.abs() + tolerance.absolute;
            let same = given.to_bits() == expected.to_bits() || given.is_nan() && expected.is_nan();
            assert!(
                same || (given - expected).abs() <= bound,
                "{name}: {given} at {index} where {expected} ± {bound} is due; params {:?}",
                dispatch.params
            );
        }
    }
}

/// A small repeatable source of numbers (Numerical Recipes' quick generator).
pub(crate) struct Random(u32);

impl Random {
    pub(crate) const fn new(seed: u32) -> Self {
        Self(seed)
    }

    /// Uniform in `0..below`.
    pub(crate) fn below(&mut self, below: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((u64::from(self.0) * u64::from(below)) >> 32) as u32
    }

    /// Uniform in -1..1.
    pub(crate) fn float(&mut self) -> f32 {
        self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, count: usize) -> Data {
        Data::F32((0..count).map(|_| self.float()).collect())
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| self.below(256).to_le_bytes()[0].cast_signed()).collect()
    }

    pub(crate) fn integers(&mut self, count: usize, below: u32) -> Vec<i32> {
        (0..count).map(|_| self.below(below).cast_signed()).collect()
    }
}
