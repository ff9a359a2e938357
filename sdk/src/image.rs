//! Pictures: from a PNG or JPEG file to the tensor that a model takes.
//!
//! ```no_run
//! use gw_sdk::image::{Image, Layout, Order};
//! use gw_sdk::{Body, Error, handler};
//!
//! #[handler]
//! fn brightness(Body(file): Body) -> Result<String, Error> {
//!     let image = Image::decode(&file)?.resize(224, 224)?;
//!     let tensor = image.to_tensor(Layout::Nchw, Order::Rgb, [0.0; 3], [1.0 / 255.0; 3]);
//!     assert_eq!(tensor.dims(), [1, 3, 224, 224]);
//!     Ok((tensor.as_slice().iter().sum::<f32>() / tensor.len() as f32).to_string())
//! }
//! ```

use std::fmt;

use crate::Error;
use crate::nn::Tensor;

mod batch;
mod decode;
mod rect;
mod resize;
mod straighten;

pub use self::rect::{Rect, suppress};
pub use self::resize::Filter;

/// Decoded pictures have at most so many pixels, unless [`Image::decode_within`] says otherwise:
/// 16 Mi, more than a camera's 12 megapixels, and 48 MiB here. A few hundred bytes can claim to be
/// billions of pixels.
pub const PIXELS_MAX: u64 = 16 << 20;

/// A picture: 8 bits for each of red, green and blue.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

/// Where the colours are in a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[1, 3, height, width]`: a plane for each colour.
    Nchw,
    /// `[1, height, width, 3]`: the colours of a pixel side by side.
    Nhwc,
}

/// Which colour is first in a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red, as of old in `OpenCV`.
    Bgr,
}

impl Image {
    /// A picture of these pixels: rows from the top, each pixel red, green, blue.
    ///
    /// # Errors
    /// 500 `wrong_image` where they do not fill it, or it is empty.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self, Error> {
        let bytes = (u64::from(width) * u64::from(height)).saturating_mul(3);
        if bytes == 0 || bytes != pixels.len() as u64 {
            let given = pixels.len();
            let message = format!("{width} × {height} pixels take {bytes} bytes, not {given}");
            return Err(Error::new(500, "wrong_image", message));
        }
        Ok(Self { width, height, pixels })
    }

    /// The width in pixels, never 0.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// The height in pixels, never 0.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Rows from the top, each pixel red, green, blue.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The part from `x`, `y` on, counted from the top left corner.
    ///
    /// # Errors
    /// 422 `wrong_crop` where it is empty or does not lie within the picture.
    pub fn crop(&self, x: u32, y: u32, width: u32, height: u32) -> Result<Self, Error> {
        let within = |from: u32, size: u32, whole: u32| {
            size > 0 && from.checked_add(size).is_some_and(|end| end <= whole)
        };
        if !within(x, width, self.width) || !within(y, height, self.height) {
            let message = format!(
                "{width} × {height} pixels from {x}, {y} on do not lie within a picture of {} × {}",
                self.width, self.height
            );
            return Err(Error::new(422, "wrong_crop", message));
        }
        let (x, row, line) = (x as usize * 3, width as usize * 3, self.width as usize * 3);
        let lines = self.pixels.chunks_exact(line).skip(y as usize).take(height as usize);
        let pixels = lines.flat_map(|line| &line[x..x + row]).copied().collect();
        Ok(Self { width, height, pixels })
    }

    /// The picture as a model takes it: every value is `(value - mean) * scale`, with the means
    /// and scales in the order of the colours in the tensor.
    pub fn to_tensor(
        &self,
        layout: Layout,
        order: Order,
        mean: [f32; 3],
        scale: [f32; 3],
    ) -> Tensor<f32> {
        let source: [usize; 3] = match order {
            Order::Rgb => [0, 1, 2],
            Order::Bgr => [2, 1, 0],
        };
        let value = |pixel: &[u8], at: usize| (f32::from(pixel[source[at]]) - mean[at]) * scale[at];
        let (height, width) = (self.height as usize, self.width as usize);
        let mut values = Vec::with_capacity(self.pixels.len());
        let dims = match layout {
            Layout::Nchw => {
                for at in 0..3 {
                    values.extend(self.pixels.chunks_exact(3).map(|pixel| value(pixel, at)));
                }
                [1, 3, height, width]
            }
            Layout::Nhwc => {
                for pixel in self.pixels.chunks_exact(3) {
                    values.extend([value(pixel, 0), value(pixel, 1), value(pixel, 2)]);
                }
                [1, height, width, 3]
            }
        };
        Tensor::new(dims, values).expect("a picture has three values for each pixel")
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} × {})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests;
