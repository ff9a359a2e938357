//! Products with weights of a few bits, in blocks; by columns where no binding holds them.

use gw_shaders::gemm::{self, Epilogue, Weights};

use super::gemm::moved;
use super::{Lowering, matrix, sizes};
use crate::error::OpError;
use crate::lower::parts::{Part, ranges};
use crate::net::{Blocks, Node};

impl Lowering<'_> {
    pub(super) fn blocks(&mut self, kind: Blocks, node: &Node) -> Result<(), OpError> {
        let [_, _, m, k] = sizes(&node.inputs[0])?;
        let [_, _, _, n] = sizes(&node.output)?;
        let (a, a_buffer) = self.matrix(&node.inputs[0])?;
        let (weights, scales) = (&node.inputs[1], &node.inputs[2]);
        let [columns, bytes] = sizes(weights)?;
        let [_, count, pair] = sizes(scales)?;
        debug_assert_eq!(columns, n, "a row of weights per column");
        let column = u64::from(bytes).max(4 * u64::from(count) * u64::from(pair));
        let output = matrix(&node.output.layout)?
            .ok_or_else(|| OpError::Unsupported("the layout of this output".to_owned()))?;
        let target = self.buffer(node.output.tensor)?;
        let at_once = self.units_at_once(weights, column)?;
        // Four columns are stored at once.
        let at_once = if at_once < 4 || at_once >= n { at_once } else { at_once / 4 * 4 };
        let Blocks { bits, block } = kind;
        for (index, columns) in ranges(n, at_once).enumerate() {
            let part = [Part(0, columns.clone())];
            let words =
                self.converted_part(weights, " words", &part, |data| Ok(data.bytes().clone()))?;
            let scales = self.dense_part(scales, Part(0, columns.clone()))?;
            let spec = gemm::Spec {
                batch: [1, 1],
                m,
                n: columns.end - columns.start,
                k,
                a,
                b: Weights::Blocks { bits, block },
                output: moved(output, [0, columns.start])?,
                epilogue: Epilogue::identity(),
            };
            let made = self.made(spec)?;
            self.step(made, vec![a_buffer, words, scales, target]);
            self.split += usize::from(index > 0);
        }
        Ok(())
    }
}
