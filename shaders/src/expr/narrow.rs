//! Rounding to float types narrower than `f32`, which stay `f32` on a device.

/// What is rounded to; `saturate` holds what is too large at the largest number instead of making
/// it infinite or NaN. Ties go to the even neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the element types of ONNX")]
pub enum Narrow {
    F16,
    Bf16,
    F8E4m3 {
        saturate: bool,
    },
    F8E4m3Fnuz {
        saturate: bool,
    },
    F8E5m2 {
        saturate: bool,
    },
    F8E5m2Fnuz {
        saturate: bool,
    },
    /// Always saturates; NaN, which the type lacks, gives zero.
    F4E2m1,
    /// A power of two; the sign is left out.
    F8E8m0 {
        saturate: bool,
        round: Power,
    },
}

/// How `FLOAT8E8M0` is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Power {
    /// To the next power away from zero.
    Up,
    /// To the next power towards zero.
    Down,
    /// To the nearest power, halves up.
    Nearest,
}

/// Bits of an `f32`.
const INFINITY: u32 = 0x7f80_0000;
const NAN: u32 = 0x7fc0_0000;
const SIGN: u32 = 1 << 31;

/// A format with a sign in the terms that the functions of `expr.wgsl` take.
struct Form {
    /// Bits of the mantissa.
    mantissa: u32,
    /// The exponent of the smallest normal number; `None` where it is that of `f32`.
    least: Option<i32>,
    /// The largest number.
    largest: f32,
    /// What is larger becomes the number of these bits.
    beyond: u32,
    nan: u32,
    signed_zero: bool,
}

impl Narrow {
    /// Each type, in each way that it is rounded to.
    #[rustfmt::skip]
    pub const ALL: [Self; 17] = [
        Self::F16, Self::Bf16, Self::F4E2m1,
        Self::F8E4m3 { saturate: true }, Self::F8E4m3 { saturate: false },
        Self::F8E4m3Fnuz { saturate: true }, Self::F8E4m3Fnuz { saturate: false },
        Self::F8E5m2 { saturate: true }, Self::F8E5m2 { saturate: false },
        Self::F8E5m2Fnuz { saturate: true }, Self::F8E5m2Fnuz { saturate: false },
        Self::F8E8m0 { saturate: true, round: Power::Up },
        Self::F8E8m0 { saturate: false, round: Power::Up },
        Self::F8E8m0 { saturate: true, round: Power::Down },
        Self::F8E8m0 { saturate: false, round: Power::Down },
        Self::F8E8m0 { saturate: true, round: Power::Nearest },
        Self::F8E8m0 { saturate: false, round: Power::Nearest },
    ];

    const fn form(self) -> Option<Form> {
        let (mantissa, least, largest, saturate, otherwise, signed_zero) = match self {
            Self::F16 => (10, Some(-14), 65504.0f32, false, INFINITY, true),
            Self::Bf16 => (7, None, 3.389_531_4e38, false, INFINITY, true),
            Self::F8E4m3 { saturate } => (3, Some(-6), 448.0, saturate, NAN, true),
            Self::F8E4m3Fnuz { saturate } => (3, Some(-7), 240.0, saturate, NAN, false),
            Self::F8E5m2 { saturate } => (2, Some(-14), 57344.0, saturate, INFINITY, true),
            Self::F8E5m2Fnuz { saturate } => (2, Some(-15), 57344.0, saturate, NAN, false),
            Self::F4E2m1 => (1, Some(0), 6.0, true, NAN, true),
            Self::F8E8m0 { .. } => return None,
        };
        let beyond = if saturate { largest.to_bits() } else { otherwise };
        let nan = if matches!(self, Self::F4E2m1) { 0 } else { NAN };
        Some(Form { mantissa, least, largest, beyond, nan, signed_zero })
    }

    /// The nearest value of the type.
    pub(super) fn round(self, x: f32) -> f32 {
        let bits = x.to_bits();
        let size = bits & !SIGN;
        let Some(form) = self.form() else { return f32::from_bits(self.power(size)) };
        if x.is_nan() {
            return f32::from_bits(form.nan);
        }
        let rounded = match form.least {
            Some(least) if x.abs() < 2f32.powi(least) => {
                // Numbers below the normal ones are multiples of the smallest.
                let step = 2f32.powi(least - form.mantissa.cast_signed());
                ((x.abs() / step).round_ties_even() * step).to_bits()
            }
            _ => {
                let drop = 23 - form.mantissa;
                let up = (1 << (drop - 1)) - 1 + (size >> drop & 1);
                let rounded = (size + up) >> drop << drop;
                if rounded > form.largest.to_bits() { form.beyond } else { rounded }
            }
        };
        let sign = if rounded == 0 && !form.signed_zero { 0 } else { bits & SIGN };
        f32::from_bits(rounded | sign)
    }

    /// The bits of the power of two for a number without sign.
    const fn power(self, size: u32) -> u32 {
        let Self::F8E8m0 { saturate, round } = self else { return size };
        if size > INFINITY {
            return NAN;
        }
        if size == INFINITY {
            return if saturate { 0x7f00_0000 } else { NAN };
        }
        let up = match round {
            Power::Up => 0x7f_ffff,
            Power::Down => 0,
            Power::Nearest => 0x40_0000,
        };
        let exponent = (size + up) >> 23;
        match exponent {
            // 2^-127, the smallest, is below the normal numbers.
            0 => 0x40_0000,
            255.. => {
                if saturate {
                    0x7f00_0000
                } else {
                    NAN
                }
            }
            exponent => exponent << 23,
        }
    }

    /// The call of the function that rounds register `a`.
    pub(super) fn wgsl(self, a: usize) -> String {
        if let Self::F8E8m0 { saturate, round } = self {
            let up = match round {
                Power::Up => 0x7f_ffffu32,
                Power::Down => 0,
                Power::Nearest => 0x40_0000,
            };
            let beyond = if saturate { 0x7f00_0000 } else { NAN };
            return format!("narrow_power(r{a}, {up}u, {beyond}u)");
        }
        let Some(form) = self.form() else { return format!("r{a}") };
        let (least, steps) = form.least.map_or((0, 1.0), |least| {
            let steps = 2f32.powi(form.mantissa.cast_signed() - least);
            (2f32.powi(least).to_bits(), steps)
        });
        let (drop, largest) = (23 - form.mantissa, form.largest.to_bits());
        let Form { beyond, nan, signed_zero, .. } = form;
        let zero = if signed_zero { SIGN } else { 0 };
        format!(
            "narrow_float(r{a}, {drop}u, {least}u, {steps:?}f, {largest}u, {beyond}u, {nan}u, \
             {zero}u)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roundings_match_a_table() {
        let (sat, not) = (true, false);
        let cases = [
            (Narrow::F16, 2049.0, 2048.0),
            (Narrow::F16, 65519.0, 65504.0),
            (Narrow::F16, 65520.0, f32::INFINITY),
            // Half of the smallest goes to zero, more does not.
            (Narrow::F16, 2f32.powi(-25), 0.0),
            (Narrow::F16, 2f32.powi(-25) * 1.5, 2f32.powi(-24)),
            (Narrow::Bf16, 257.0, 256.0),
            (Narrow::Bf16, 259.0, 260.0),
            (Narrow::Bf16, f32::MAX, f32::INFINITY),
            (Narrow::F8E4m3 { saturate: sat }, 464.0, 448.0),
            (Narrow::F8E4m3 { saturate: sat }, f32::NEG_INFINITY, -448.0),
            (Narrow::F8E4m3 { saturate: not }, 465.0, f32::NAN),
            (Narrow::F8E4m3Fnuz { saturate: sat }, 1000.0, 240.0),
            (Narrow::F8E5m2 { saturate: not }, 1e6, f32::INFINITY),
            (Narrow::F8E5m2Fnuz { saturate: not }, f32::INFINITY, f32::NAN),
            (Narrow::F4E2m1, 5.0, 4.0),
            (Narrow::F4E2m1, -0.25, -0.0),
            (Narrow::F4E2m1, 0.75, 1.0),
            (Narrow::F4E2m1, f32::NAN, 0.0),
            (Narrow::F8E8m0 { saturate: sat, round: Power::Up }, 1.001, 2.0),
            (Narrow::F8E8m0 { saturate: sat, round: Power::Down }, 1.999, 1.0),
            (Narrow::F8E8m0 { saturate: sat, round: Power::Nearest }, 1.5, 2.0),
            (Narrow::F8E8m0 { saturate: not, round: Power::Up }, f32::MAX, f32::NAN),
            (Narrow::F8E8m0 { saturate: sat, round: Power::Up }, f32::MAX, 2f32.powi(127)),
        ];
        for (narrow, x, due) in cases {
            let given = narrow.round(x);
            let same = given.to_bits() == due.to_bits() || given.is_nan() && due.is_nan();
            assert!(same, "{narrow:?} of {x} is {given}, not {due}");
        }
        assert_eq!(Narrow::F8E5m2Fnuz { saturate: sat }.round(-0.0).to_bits(), 0);
    }

    #[test]
    fn halves_round_as_the_half_crate_rounds() {
        for bits in (0..=u32::MAX).step_by(65_521) {
            let x = f32::from_bits(bits);
            let due = half::f16::from_f32(x).to_f32();
            let given = Narrow::F16.round(x);
            assert!(given == due || given.is_nan() && due.is_nan(), "f16 of {x}: {given}");
            let due = half::bf16::from_f32(x).to_f32();
            let given = Narrow::Bf16.round(x);
            assert!(given == due || given.is_nan() && due.is_nan(), "bf16 of {x}: {given}");
        }
    }
}
