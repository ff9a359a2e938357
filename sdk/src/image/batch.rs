//! Several pictures in one tensor, and pictures on their side.

use super::{Image, Layout, Order};
use crate::Error;
use crate::nn::Tensor;

impl Image {
    /// Pictures of one size as a model takes them together: as [`Image::to_tensor`], with as many
    /// entries in the first dimension as there are pictures.
    ///
    /// ```
    /// use gw_sdk::image::{Image, Layout, Order};
    ///
    /// let pictures = [Image::new(2, 1, vec![7; 6])?, Image::new(2, 1, vec![9; 6])?];
    /// let tensor = Image::batch(&pictures, Layout::Nhwc, Order::Rgb, [7.0; 3], [0.5; 3])?;
    /// assert_eq!(tensor.dims(), [2, 1, 2, 3]);
    /// assert_eq!(tensor.as_slice(), [[0.0; 6], [1.0; 6]].concat());
    /// # Ok::<(), gw_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// 500 `wrong_image` where there is no picture, or one has another size than the first.
    pub fn batch(
        pictures: &[Self],
        layout: Layout,
        order: Order,
        mean: [f32; 3],
        scale: [f32; 3],
    ) -> Result<Tensor<f32>, Error> {
        let wrong = |message| Err(Error::new(500, "wrong_image", message));
        let Some(first) = pictures.first() else {
            return wrong("a batch takes at least one picture".to_owned());
        };
        let size = |picture: &Self| (picture.width, picture.height);
        if let Some(other) = pictures.iter().find(|picture| size(picture) != size(first)) {
            return wrong(format!("{other:?} is in a batch of {first:?}: make them one size"));
        }
        let mut values = Vec::with_capacity(pictures.len() * first.pixels.len());
        for picture in pictures {
            values.extend(picture.to_tensor(layout, order, mean, scale).into_vec());
        }
        let (height, width) = (first.height as usize, first.width as usize);
        let dims = match layout {
            Layout::Nchw => [pictures.len(), 3, height, width],
            Layout::Nhwc => [pictures.len(), height, width, 3],
        };
        Ok(Tensor::new(dims, values)?)
    }

    /// The picture with its columns as rows, for models that were trained on such.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let (width, height) = (self.width as usize, self.height as usize);
        let pixel = |x: usize, y: usize| &self.pixels[(y * width + x) * 3..][..3];
        let columns = (0..width).flat_map(|x| (0..height).flat_map(move |y| pixel(x, y)));
        let pixels = columns.copied().collect();
        Self { width: self.height, height: self.width, pixels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_rows_and_rows_again() {
        let picture = Image::new(3, 2, (1..=18).collect()).unwrap();
        let turned = picture.transposed();
        assert_eq!((turned.width(), turned.height()), (2, 3));
        let first = [1, 2, 3, 10, 11, 12];
        assert_eq!(turned.pixels()[..6], first);
        assert_eq!(turned.transposed(), picture);
    }

    #[test]
    fn a_batch_is_its_pictures_one_after_the_other() {
        let pictures = [[1; 6], [5; 6]].map(|pixels| Image::new(1, 2, pixels.to_vec()).unwrap());
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let take =
                |pictures: &[Image]| Image::batch(pictures, layout, Order::Bgr, [1.0; 3], [2.0; 3]);
            let alone = pictures.clone().map(|picture| take(&[picture]).unwrap().into_vec());
            assert_eq!(take(&pictures).unwrap().into_vec(), alone.concat());
            let single = pictures[0].to_tensor(layout, Order::Bgr, [1.0; 3], [2.0; 3]);
            assert_eq!(take(&pictures[..1]).unwrap(), single);
        }
    }

    #[test]
    fn pictures_of_two_sizes_and_no_picture_are_refused() {
        let pictures = [(1, 2), (2, 1)].map(|(w, h)| Image::new(w, h, vec![0; 6]).unwrap());
        for pictures in [&pictures[..], &[]] {
            let batch = Image::batch(pictures, Layout::Nhwc, Order::Rgb, [0.0; 3], [1.0; 3]);
            assert_eq!(batch.unwrap_err().code, "wrong_image");
        }
    }
}
