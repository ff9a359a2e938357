//! From files to pixels. A file is a stranger's: its header is believed only within limits.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::{Image, PIXELS_MAX};
use crate::Error;

/// While a file is decoded it may take so many bytes a pixel: four channels of 16 bits, and as
/// many again for what the decoder keeps.
const BYTES_A_PIXEL_MAX: u64 = 16;
/// What a decoder may take for a small picture, such as tables and one row.
const BYTES_MIN: u64 = 1 << 20;

impl Image {
    /// Reads a PNG or JPEG file of up to [`PIXELS_MAX`] pixels, turned as its EXIF orientation
    /// says. Greys become colours, 16 bits become 8, and transparency is dropped.
    ///
    /// # Errors
    /// About the field `body`: 415 `unsupported_image` where it is neither, 413 `image_too_large`,
    /// 422 `invalid_image` where it is damaged. A PNG that is cut off is; of a JPEG, what is
    /// missing is grey.
    pub fn decode(file: &[u8]) -> Result<Self, Error> {
        Self::decode_within(file, PIXELS_MAX)
    }

    /// The same with another limit. A picture takes 3 bytes a pixel, and up to 16 while it is
    /// decoded: see that the plugin's `memory` in `gw.toml` has room for it.
    ///
    /// # Errors
    /// As [`Image::decode`].
    pub fn decode_within(file: &[u8], pixels_max: u64) -> Result<Self, Error> {
        let Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) = image::guess_format(file) else {
            return Err(wrong(415, "unsupported_image", "the file is neither PNG nor JPEG"));
        };
        let mut reader = ImageReader::with_format(Cursor::new(file), format);
        let mut limits = Limits::default();
        let bytes_max = pixels_max.saturating_mul(BYTES_A_PIXEL_MAX).max(BYTES_MIN);
        limits.max_alloc = Some(bytes_max);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|error| invalid(&error))?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > pixels_max {
            let message = format!(
                "{width} × {height} pixels are more than the {pixels_max} that are decoded; \
                 make the picture smaller"
            );
            return Err(wrong(413, "image_too_large", message));
        }
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let decoded = DynamicImage::from_decoder(decoder).map_err(|error| invalid(&error))?;
        // Turning takes a second picture, so what is turned is small.
        let mut decoded = DynamicImage::ImageRgb8(decoded.into_rgb8());
        decoded.apply_orientation(orientation);
        let pixels = decoded.into_rgb8();
        let (width, height) = pixels.dimensions();
        if width == 0 || height == 0 {
            return Err(wrong(422, "invalid_image", "the picture has no pixels"));
        }
        Ok(Self { width, height, pixels: pixels.into_raw() })
    }
}

fn invalid(error: &ImageError) -> Error {
    match error {
        ImageError::Limits(_) => {
            let message = "the picture takes more memory than a decoder may have; make it smaller";
            wrong(413, "image_too_large", message)
        }
        ImageError::Unsupported(_) => wrong(415, "unsupported_image", error.to_string()),
        _ => wrong(422, "invalid_image", error.to_string()),
    }
}

fn wrong(status: u16, code: &str, message: impl Into<String>) -> Error {
    Error::new(status, code, message).field("body")
}
