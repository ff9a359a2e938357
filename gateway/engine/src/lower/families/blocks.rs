//! Products with weights of a few bits, in blocks.

use gw_shaders::gemm::{self, Epilogue, Weights};

use super::{Lowering, matrix, size, sizes};
use crate::error::OpError;
use crate::net::{Blocks, Node};

impl Lowering<'_> {
    pub(super) fn blocks(&mut self, kind: Blocks, node: &Node) -> Result<(), OpError> {
        let [_, _, m, k] = sizes(&node.inputs[0])?;
        let [_, _, _, n] = sizes(&node.output)?;
        let (a, buffer) = self.matrix(&node.inputs[0])?;
        let mut bindings = vec![buffer];
        let weights = self.converted(&node.inputs[1], " words", |data| Ok(data.bytes().clone()))?;
        bindings.extend([weights, self.dense(&node.inputs[2])?]);
        let output = matrix(&node.output.layout)?
            .ok_or_else(|| OpError::Unsupported("the layout of this output".to_owned()))?;
        bindings.push(self.buffer(node.output.tensor)?);
        let Blocks { bits, block } = kind;
        let spec = gemm::Spec {
            batch: [1, 1],
            m,
            n,
            k,
            a,
            b: Weights::Blocks { bits, block },
            output,
            epilogue: Epilogue::identity(),
        };
        debug_assert_eq!(size(node.inputs[1].shape()[0])?, n, "a row of weights per column");
        self.step(gemm::dispatch(&spec, self.caps)?, bindings);
        Ok(())
    }
}
