//! What the bytes of floats of eight bits and fewer mean.
//!
//! Source: *Float stored in 8 bits* and *4 bits* (ONNX 1.22, technical documents); arXiv
//! 2209.05433 and 2206.02915; the OCP specification of microscaling formats.

use crate::DType;

/// A format with a sign: value = (-1)^s 2^(e - bias) 1.m, or 2^(1 - bias) 0.m where e is 0.
struct Format {
    mantissa: u32,
    bias: i32,
    /// The largest code of a finite number, without its sign.
    largest: u8,
    /// The place of the sign.
    sign: u8,
    nan: u8,
    infinity: Option<u8>,
    /// There is a zero with a sign.
    signed_zero: bool,
}

impl Format {
    const fn of(dtype: DType) -> Option<Self> {
        let (sign, signed_zero) = (0x80, true);
        let format = match dtype {
            DType::F8E4m3 => {
                let (mantissa, bias, infinity) = (3, 7, None);
                Self { mantissa, bias, largest: 0x7e, sign, nan: 0x7f, infinity, signed_zero }
            }
            DType::F8E4m3Fnuz => {
                let (mantissa, bias, infinity, signed_zero) = (3, 8, None, false);
                Self { mantissa, bias, largest: 0x7f, sign, nan: 0x80, infinity, signed_zero }
            }
            DType::F8E5m2 => {
                let (mantissa, bias, infinity) = (2, 15, Some(0x7c));
                Self { mantissa, bias, largest: 0x7b, sign, nan: 0x7f, infinity, signed_zero }
            }
            DType::F8E5m2Fnuz => {
                let (mantissa, bias, infinity, signed_zero) = (2, 16, None, false);
                Self { mantissa, bias, largest: 0x7f, sign, nan: 0x80, infinity, signed_zero }
            }
            // There is no NaN: zero stands for it, as in ml_dtypes.
            DType::F4E2m1 => {
                let (mantissa, bias, infinity, sign) = (1, 1, None, 0x08);
                Self { mantissa, bias, largest: 0x07, sign, nan: 0x08, infinity, signed_zero }
            }
            _ => return None,
        };
        Some(format)
    }

    /// The value of a code without its sign.
    fn size(&self, code: u8) -> f32 {
        let exponent = i32::from(code >> self.mantissa);
        let fraction = f32::from(code & ((1 << self.mantissa) - 1)) / (1 << self.mantissa) as f32;
        if exponent == 0 {
            fraction * 2f32.powi(1 - self.bias)
        } else {
            (1.0 + fraction) * 2f32.powi(exponent - self.bias)
        }
    }
}

/// The value of a byte of type `dtype`; NaN for every other type.
pub fn decode(dtype: DType, byte: u8) -> f32 {
    let Some(format) = Format::of(dtype) else {
        return match (dtype, byte) {
            (DType::F8E8m0, 0..=254) => f32::from_bits(match byte {
                // 2^-127 is below the normal numbers.
                0 => 1 << 22,
                exponent => u32::from(exponent) << 23,
            }),
            _ => f32::NAN,
        };
    };
    let code = byte & (format.sign - 1);
    let negative = byte & format.sign != 0;
    let size = match code {
        _ if !format.signed_zero && byte == format.nan => f32::NAN,
        code if Some(code) == format.infinity => f32::INFINITY,
        code if code > format.largest => f32::NAN,
        code => format.size(code),
    };
    if negative { -size } else { size }
}

/// The byte of type `dtype` nearest to `value`, ties to even. What is too large becomes infinite
/// where the type has infinities and is given one, else the largest number; 0 for every other
/// type.
pub fn encode(dtype: DType, value: f32) -> u8 {
    let Some(format) = Format::of(dtype) else {
        return if dtype == DType::F8E8m0 { encode_power(value) } else { 0 };
    };
    if value.is_nan() {
        return format.nan;
    }
    let size = value.abs();
    let mut code = match format.infinity {
        Some(code) if size.is_infinite() => code,
        _ => {
            // Sizes grow with their codes: the last that is not beyond.
            let (mut low, mut high) = (0, format.largest);
            while low < high {
                let middle = low + (high - low).div_ceil(2);
                if format.size(middle) <= size { low = middle } else { high = middle - 1 }
            }
            low
        }
    };
    if code < format.largest {
        let (below, above) = (size - format.size(code), format.size(code + 1) - size);
        code += u8::from(above < below || above == below && code % 2 == 1);
    }
    let negative = value.is_sign_negative() && (code != 0 || format.signed_zero);
    if negative { code | format.sign } else { code }
}

/// The nearest power of two by its exponent; the sign does not count.
fn encode_power(value: f32) -> u8 {
    let bits = value.to_bits() & 0x7fff_ffff;
    if bits > 0x7f80_0000 {
        return 255;
    }
    // Below the normal numbers the powers 2^-127 and 2^-126 are neighbours.
    if bits < 0x0060_0000 {
        return 0;
    }
    let exponent = (bits + (1 << 22)) >> 23;
    u8::try_from(exponent).unwrap_or(254).min(254)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [DType; 6] = [
        DType::F8E4m3,
        DType::F8E4m3Fnuz,
        DType::F8E5m2,
        DType::F8E5m2Fnuz,
        DType::F8E8m0,
        DType::F4E2m1,
    ];

    #[test]
    fn known_bytes_have_their_values() {
        let cases = [
            (DType::F8E4m3, 0x7e, 448.0),
            (DType::F8E4m3, 0x01, 2f32.powi(-9)),
            (DType::F8E4m3, 0xb8, -1.0),
            (DType::F8E4m3Fnuz, 0x7f, 240.0),
            (DType::F8E4m3Fnuz, 0x01, 2f32.powi(-10)),
            (DType::F8E5m2, 0x7b, 57344.0),
            (DType::F8E5m2, 0x7c, f32::INFINITY),
            (DType::F8E5m2, 0x01, 2f32.powi(-16)),
            (DType::F8E5m2Fnuz, 0x7f, 57344.0),
            (DType::F8E5m2Fnuz, 0x81, -(2f32.powi(-17))),
            (DType::F8E8m0, 0x7f, 1.0),
            (DType::F8E8m0, 0x00, 2f32.powi(-127)),
            (DType::F4E2m1, 0x07, 6.0),
            (DType::F4E2m1, 0x09, -0.5),
        ];
        for (dtype, byte, value) in cases {
            assert_eq!(decode(dtype, byte), value, "{dtype} {byte:#x}");
            assert_eq!(encode(dtype, value), byte, "{dtype} {value}");
        }
        for (dtype, nan) in
            [(DType::F8E4m3, 0x7f), (DType::F8E4m3Fnuz, 0x80), (DType::F8E8m0, 0xff)]
        {
            assert!(decode(dtype, nan).is_nan());
            assert_eq!(encode(dtype, f32::NAN), nan);
        }
    }

    #[test]
    fn every_byte_comes_back() {
        for dtype in ALL {
            for byte in 0..=if dtype == DType::F4E2m1 { 15 } else { 255u8 } {
                let value = decode(dtype, byte);
                if !value.is_nan() {
                    assert_eq!(encode(dtype, value), byte, "{dtype} {byte:#x}");
                }
            }
        }
    }

    #[test]
    fn values_between_go_to_the_nearest_and_ties_to_even() {
        // 2.5 lies between 2 (0x4) and 3 (0x5), 5 between 4 (0x6) and 6 (0x7).
        assert_eq!(encode(DType::F4E2m1, 2.5), 0x4);
        assert_eq!(encode(DType::F4E2m1, 5.0), 0x6);
        assert_eq!(encode(DType::F4E2m1, 5.1), 0x7);
        assert_eq!(encode(DType::F4E2m1, -100.0), 0xf);
        assert_eq!(encode(DType::F8E4m3, 464.0), 0x7e);
        assert_eq!(encode(DType::F8E4m3Fnuz, -0.0), 0);
    }
}
