//! Products of bytes that are added up as bytes.

use gw_shaders::dot;
use gw_shaders::expr::Expr;
use gw_tensor::DType;

use super::{Lowering, matrix, sizes, words};
use crate::error::OpError;
use crate::net::Node;

impl Lowering<'_> {
    pub(super) fn dot(&mut self, epilogue: &Expr, node: &Node) -> Result<(), OpError> {
        let [a, weights, further @ ..] = node.inputs.as_slice() else {
            return Err(OpError::Missing("an operand".to_owned()));
        };
        let [_, _, m, k] = sizes(a)?;
        let [_, _, _, n] = sizes(weights)?;
        let (rows, buffer) = self.matrix(a)?;
        let unsigned = weights.dtype == DType::U8;
        let mut bindings = vec![buffer];
        bindings.push(self.converted(weights, " words of k", |data| {
            let flip = if unsigned { 0x80 } else { 0 };
            let bytes: Vec<i8> =
                data.bytes().iter().map(|byte| (byte ^ flip).cast_signed()).collect();
            Ok(words(dot::pack(&bytes, k, n)))
        })?);
        let epilogue = self.epilogue(epilogue, further, &mut bindings)?;
        let output = matrix(&node.output.layout)?
            .ok_or_else(|| OpError::Unsupported("the layout of this output".to_owned()))?;
        bindings.push(self.buffer(node.output.tensor)?);
        let signed = a.dtype == DType::I8;
        let made = self.made(dot::Spec { m, n, k, a: rows, signed, output, epilogue })?;
        self.step(made, bindings);
        Ok(())
    }
}
