//! Parts of a picture that do not lie straight in it, and pictures in a larger frame.

use super::{Image, PIXELS_MAX};
use crate::Error;

impl Image {
    /// What lies in a rectangle that may be turned, upright. The corners are those of its top left,
    /// top right, bottom right and bottom left, in pixels from the top left corner of the picture;
    /// the border goes on where they lie beyond it.
    ///
    /// # Errors
    /// 422 `wrong_corners` where a corner is no number, or more than [`PIXELS_MAX`] pixels lie
    /// within.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes are 1 to `PIXELS_MAX`"
    )]
    pub fn straighten(&self, corners: [[f32; 2]; 4]) -> Result<Self, Error> {
        let [start, right, _, down] = corners;
        let length = |to: [f32; 2]| f32::hypot(to[0] - start[0], to[1] - start[1]).round().max(1.0);
        let (columns, rows) = (length(right), length(down));
        let places = corners.as_flattened().iter().all(|place| place.is_finite());
        if !places || columns * rows > PIXELS_MAX as f32 {
            let message = format!("{corners:?} does not enclose 1 to {PIXELS_MAX} pixels");
            return Err(Error::new(422, "wrong_corners", message));
        }
        let (width, height) = (columns as u32, rows as u32);
        let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
        for y in 0..height {
            for x in 0..width {
                let (u, v) = ((x as f32 + 0.5) / columns, (y as f32 + 0.5) / rows);
                let [x, y] = [0, 1].map(|axis| {
                    let from = start[axis];
                    from + u * (right[axis] - from) + v * (down[axis] - from) - 0.5
                });
                pixels.extend(self.between(x, y));
            }
        }
        Self::new(width, height, pixels)
    }

    /// The colour at a place between the middles of four pixels.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "places are clamped to the picture, and colours lie between two of 8 bits"
    )]
    fn between(&self, x: f32, y: f32) -> [u8; 3] {
        let inside = |at: f32, size: u32| (at.max(0.0) as usize).min(size as usize - 1);
        let (left, top) = (x.floor(), y.floor());
        let columns = [left, left + 1.0].map(|x| inside(x, self.width));
        let rows = [top, top + 1.0].map(|y| inside(y, self.height) * self.width as usize);
        [0, 1, 2].map(|colour| {
            let value =
                |row: usize, column: usize| f32::from(self.pixels[(row + column) * 3 + colour]);
            let [above, below] = rows.map(|row| {
                let [here, there] = columns.map(|column| value(row, column));
                here + (there - here) * (x - left)
            });
            (above + (below - above) * (y - top)).round() as u8
        })
    }

    /// The picture turned by half, as if it stood on its head.
    #[must_use]
    pub fn turned_round(&self) -> Self {
        let pixels = self.pixels.chunks_exact(3).rev().flatten().copied().collect();
        Self { pixels, ..*self }
    }

    /// The picture in the top left of a larger one, which has this colour elsewhere. What does not
    /// fit is cut off.
    ///
    /// # Errors
    /// 422 `wrong_size` where a side is 0 or the picture would exceed [`PIXELS_MAX`].
    pub fn pad(&self, width: u32, height: u32, colour: [u8; 3]) -> Result<Self, Error> {
        let size = u64::from(width) * u64::from(height);
        if size == 0 || size > PIXELS_MAX {
            let message = format!("{width} × {height} pixels are not 1 to {PIXELS_MAX}");
            return Err(Error::new(422, "wrong_size", message));
        }
        let mut pixels = colour.repeat(width as usize * height as usize);
        let rows = self.pixels.chunks_exact(self.width as usize * 3);
        for (to, from) in pixels.chunks_exact_mut(width as usize * 3).zip(rows) {
            let both = to.len().min(from.len());
            to[..both].copy_from_slice(&from[..both]);
        }
        Ok(Self { width, height, pixels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Grey, brighter by 10 a column and by 40 a row.
    fn slope() -> Image {
        let pixels = (0..4).flat_map(|y| (0..5).flat_map(move |x| [10 * x + 40 * y; 3])).collect();
        Image::new(5, 4, pixels).unwrap()
    }

    fn greys(image: &Image) -> Vec<u8> {
        image.pixels().chunks_exact(3).map(|pixel| pixel[0]).collect()
    }

    #[test]
    fn a_straight_cut_is_a_crop() {
        let cut = slope().straighten([[1.0, 2.0], [4.0, 2.0], [4.0, 4.0], [1.0, 4.0]]).unwrap();
        assert_eq!(cut, slope().crop(1, 2, 3, 2).unwrap());
    }

    #[test]
    fn a_turned_cut_is_upright() {
        // Its top is the right side of the picture.
        let cut = slope().straighten([[5.0, 0.0], [5.0, 4.0], [3.0, 4.0], [3.0, 0.0]]).unwrap();
        assert_eq!((cut.width(), cut.height()), (4, 2));
        assert_eq!(greys(&cut), [40, 80, 120, 160, 30, 70, 110, 150]);
    }

    #[test]
    fn between_pixels_it_is_linear_and_beyond_them_the_border_goes_on() {
        let cut = slope().straighten([[0.5, 0.5], [2.5, 0.5], [2.5, 1.5], [0.5, 1.5]]).unwrap();
        assert_eq!(greys(&cut), [25, 35]);
        let beyond =
            slope().straighten([[-3.0, 0.0], [1.0, 0.0], [1.0, 1.0], [-3.0, 1.0]]).unwrap();
        assert_eq!(greys(&beyond), [0; 4]);
    }

    #[test]
    fn what_is_too_large_or_no_place_is_refused() {
        for side in [1e6, f32::NAN, f32::INFINITY] {
            let corners = [[0.0, 0.0], [side, 0.0], [side, side], [0.0, side]];
            assert_eq!(slope().straighten(corners).unwrap_err().code, "wrong_corners");
        }
    }

    #[test]
    fn turned_round_the_first_pixel_is_the_last() {
        let turned = slope().turned_round();
        assert_eq!(greys(&turned)[..2], [160, 150]);
        assert_eq!(turned.turned_round(), slope());
    }

    #[test]
    fn a_frame_has_its_colour_and_cuts_what_does_not_fit() {
        let padded = slope().crop(0, 0, 2, 1).unwrap().pad(3, 2, [7; 3]).unwrap();
        assert_eq!(greys(&padded), [0, 10, 7, 7, 7, 7]);
        assert_eq!(greys(&slope().pad(2, 1, [7; 3]).unwrap()), [0, 10]);
        assert_eq!(slope().pad(0, 1, [7; 3]).unwrap_err().code, "wrong_size");
    }
}
