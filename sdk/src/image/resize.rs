//! Other sizes of a picture, to the bit as Pillow makes them.
//!
//! Each pixel of the new picture is a weighted sum of old ones, first along rows and then along
//! columns, in whole numbers and rounded to 8 bits after each. Where the picture shrinks, a filter
//! is stretched over all pixels that make one.
//!
//! Source: Pillow's `Image.resize`; its cubic is that of Keys (1981) with a = -1/2.

use std::f64::consts::PI;

use super::{Image, PIXELS_MAX};
use crate::Error;

/// How pixels become those of another size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// Linear between the four nearest pixels, however many lie between two of the smaller
    /// picture: `OpenCV`'s `INTER_LINEAR`, but for its rounding.
    Linear,
    /// Linear, over all pixels that make one when the picture shrinks: Pillow's `BILINEAR`, and
    /// what "antialias" means elsewhere.
    #[default]
    Bilinear,
    /// Cubic, over all pixels that make one when the picture shrinks: Pillow's `BICUBIC`.
    Bicubic,
    /// Lanczos over three pixels, or all that make them when the picture shrinks: Pillow's
    /// `LANCZOS`.
    Lanczos,
    /// The mean of the pixels that make one: Pillow's `BOX`.
    Mean,
}

impl Image {
    /// The picture in another size, by [`Filter::Bilinear`]. Its proportions are not kept.
    ///
    /// # Errors
    /// 422 `wrong_size` where a side is 0 or the picture would exceed [`PIXELS_MAX`].
    pub fn resize(&self, width: u32, height: u32) -> Result<Self, Error> {
        self.resize_by(Filter::Bilinear, width, height)
    }

    /// The picture in another size.
    ///
    /// # Errors
    /// As [`Image::resize`].
    pub fn resize_by(&self, filter: Filter, width: u32, height: u32) -> Result<Self, Error> {
        // Wide and low or the other way round: what lies between both passes counts too.
        let largest =
            [(width, height), (width, self.height)].map(|(w, h)| u64::from(w) * u64::from(h));
        if width == 0 || height == 0 || largest.into_iter().any(|pixels| pixels > PIXELS_MAX) {
            let message = format!(
                "{} × {} pixels are not made {width} × {height}: a picture has 1 to {PIXELS_MAX}",
                self.width, self.height
            );
            return Err(Error::new(422, "wrong_size", message));
        }
        let mut pixels = None;
        if width != self.width {
            let taps = filter.taps(self.width, width);
            pixels = Some(along_rows(&self.pixels, self.width as usize * 3, &taps));
        }
        if height != self.height {
            let taps = filter.taps(self.height, height);
            let rows = pixels.as_ref().unwrap_or(&self.pixels);
            pixels = Some(along_columns(rows, width as usize * 3, &taps));
        }
        Ok(Self { width, height, pixels: pixels.unwrap_or_else(|| self.pixels.clone()) })
    }
}

/// Weights are fractions of 2^22: their products with 8 bits leave two bits of 32 for sums beyond
/// the range, which filters with negative weights have.
const FRACTION_BITS: u32 = 22;
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// The old pixels that make a new one: the first of them, and their weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Filter {
    /// How far from the middle it reaches.
    fn reach(self) -> f64 {
        match self {
            Self::Nearest | Self::Mean => 0.5,
            Self::Linear | Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The weight of a pixel at this distance from the middle.
    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
        let far = x.abs();
        match self {
            Self::Nearest | Self::Mean => f64::from(x > -0.5 && x <= 0.5),
            Self::Linear | Self::Bilinear => (1.0 - far).max(0.0),
            Self::Bicubic if far < 1.0 => (1.5 * far - 2.5) * far * far + 1.0,
            Self::Bicubic if far < 2.0 => ((2.5 - 0.5 * far) * far - 4.0) * far + 2.0,
            Self::Lanczos if far < 3.0 => sinc(x) * sinc(x / 3.0),
            Self::Bicubic | Self::Lanczos => 0.0,
        }
    }

    /// What makes each pixel of a line of `to` pixels from one of `from`.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "places lie within a line, and weights within two"
    )]
    fn taps(self, from: u32, to: u32) -> Vec<Taps> {
        let scale = f64::from(from) / f64::from(to);
        let stretch = match self {
            Self::Nearest | Self::Linear => 1.0,
            _ => scale.max(1.0),
        };
        let reach = self.reach() * stretch;
        let line = (0..to).map(|at| {
            let middle = (f64::from(at) + 0.5) * scale;
            if self == Self::Nearest {
                let first = (middle as usize).min(from as usize - 1);
                return Taps { first, weights: vec![1 << FRACTION_BITS] };
            }
            let first = (middle - reach + 0.5).max(0.0) as usize;
            let end = ((middle + reach + 0.5) as usize).min(from as usize);
            let weights =
                (first..end).map(|pixel| self.weight((pixel as f64 - middle + 0.5) / stretch));
            let sum: f64 = weights.clone().sum();
            let fraction = |weight: f64| (weight / sum * f64::from(1 << FRACTION_BITS)).round();
            Taps { first, weights: weights.map(|weight| fraction(weight) as i32).collect() }
        });
        line.collect()
    }
}

/// `row` is the length of a row in bytes.
fn along_rows(pixels: &[u8], row: usize, taps: &[Taps]) -> Vec<u8> {
    let mut made = Vec::with_capacity(pixels.len() / row * taps.len() * 3);
    for row in pixels.chunks_exact(row) {
        for Taps { first, weights } in taps {
            let mut sums = [HALF; 3];
            for (pixel, weight) in row[first * 3..].chunks_exact(3).zip(weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            made.extend(sums.map(rounded));
        }
    }
    made
}

/// `row` is the length of a row in bytes.
fn along_columns(pixels: &[u8], row: usize, taps: &[Taps]) -> Vec<u8> {
    let mut made = Vec::with_capacity(row * taps.len());
    let mut sums = vec![HALF; row];
    for Taps { first, weights } in taps {
        sums.fill(HALF);
        for (row, weight) in pixels[first * row..].chunks_exact(row).zip(weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        made.extend(sums.iter().map(|&sum| rounded(sum)));
    }
    made
}

fn rounded(sum: i32) -> u8 {
    u8::try_from((sum >> FRACTION_BITS).clamp(0, 255)).expect("it was clamped to 8 bits")
}
