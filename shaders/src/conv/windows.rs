//! Where the windows of a convolution lie.

use crate::compose::Composer;

/// Pairs are (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// The size of x.
    pub input: [u32; 2],
    /// The size of the output.
    pub output: [u32; 2],
    /// The size of the window.
    pub kernel: [u32; 2],
    /// Steps of the window.
    pub strides: [u32; 2],
    /// Zeros before x; the output size implies those after.
    pub pads: [u32; 2],
    /// Steps inside the window.
    pub dilations: [u32; 2],
}

impl Windows {
    /// The taps of a window, row by row.
    pub fn taps(&self) -> impl Iterator<Item = [u32; 2]> + use<> {
        let [rows, columns] = self.kernel;
        (0..rows).flat_map(move |row| (0..columns).map(move |column| [row, column]))
    }

    /// The row and column of x that a tap reads for an output pixel; `None` in the padding.
    pub fn place(&self, pixel: [u32; 2], tap: [u32; 2]) -> Option<[u32; 2]> {
        let along = |axis: usize| {
            let at = i64::from(pixel[axis]) * i64::from(self.strides[axis])
                - i64::from(self.pads[axis])
                + i64::from(tap[axis]) * i64::from(self.dilations[axis]);
            u32::try_from(at).ok().filter(|&at| at < self.input[axis])
        };
        Some([along(0)?, along(1)?])
    }

    /// Declares all but the height of the window and of the output.
    pub(super) fn declare(&self, composer: &mut Composer) {
        let pairs = [
            ("in", self.input),
            ("stride", self.strides),
            ("pad", self.pads),
            ("dilation", self.dilations),
        ];
        for (name, [h, w]) in pairs {
            composer.u32(format!("{name}_h"), h).u32(format!("{name}_w"), w);
        }
        composer.u32("kernel_w", self.kernel[1]).u32("out_w", self.output[1]);
    }
}
