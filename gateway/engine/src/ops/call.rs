//! One node being built: its inputs and attributes, and where its outputs are made.

use std::cell::RefCell;
use std::collections::HashSet;

use gw_tensor::{DType, Tensor};

use crate::error::OpError;
use crate::graph::{Attr, Node};
use crate::net::Operand;
use crate::net::builder::Builder;

/// One node being built.
pub(crate) struct Call<'a> {
    pub(super) node: &'a Node,
    pub(super) opset: i64,
    pub(super) inputs: Vec<Option<Operand>>,
    pub(super) builder: &'a mut Builder,
    /// The names of the attributes that were asked for and are there.
    pub(super) read: RefCell<HashSet<String>>,
}

impl<'a> Call<'a> {
    pub(super) fn attr(&self, name: &str) -> Option<&'a Attr> {
        let attr = self.node.attrs.get(name)?;
        self.read.borrow_mut().insert(name.to_owned());
        Some(attr)
    }

    /// Whether an attribute is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.attr(name).is_some()
    }

    pub(super) fn input(&self, index: usize) -> Result<Operand, OpError> {
        self.optional(index).ok_or_else(|| OpError::Missing(format!("input {index}")))
    }

    pub(super) fn optional(&self, index: usize) -> Option<Operand> {
        self.inputs.get(index).cloned().flatten()
    }

    /// All inputs that are there.
    pub(super) fn given(&self) -> Vec<Operand> {
        self.inputs.iter().flatten().cloned().collect()
    }

    /// The integers of an input that must be known before the run.
    pub(super) fn known_ints(&mut self, index: usize) -> Result<Vec<i64>, OpError> {
        let input = self.input(index)?;
        self.builder.int_data(&input, &format!("input {index}"))
    }

    /// As [`Call::known_ints`], of an input that may be left out.
    pub(super) fn optional_ints(&mut self, index: usize) -> Result<Option<Vec<i64>>, OpError> {
        match self.optional(index) {
            Some(_) => self.known_ints(index).map(Some),
            None => Ok(None),
        }
    }

    /// Integers that older operator sets give as an attribute and newer ones as an input.
    pub(super) fn ints_or_input(
        &mut self,
        name: &str,
        index: usize,
    ) -> Result<Option<Vec<i64>>, OpError> {
        match self.ints(name) {
            Some(given) => Ok(Some(given)),
            None => self.optional_ints(index),
        }
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        match self.attr(name) {
            Some(Attr::Int(value)) => *value,
            _ => default,
        }
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        self.int(name, default.into()) != 0
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        match self.attr(name) {
            Some(Attr::Float(value)) => *value,
            _ => default,
        }
    }

    pub(super) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        match self.attr(name) {
            Some(Attr::Ints(values)) => Some(values.clone()),
            _ => None,
        }
    }

    pub(super) fn floats(&self, name: &str) -> Option<Vec<f32>> {
        match self.attr(name) {
            Some(Attr::Floats(values)) => Some(values.clone()),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str, default: &str) -> String {
        match self.attr(name) {
            Some(Attr::String(value)) => String::from_utf8_lossy(value).into_owned(),
            _ => default.to_owned(),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&Tensor> {
        match self.attr(name) {
            Some(Attr::Tensor(tensor)) => Some(tensor),
            _ => None,
        }
    }

    /// An element type that an attribute names by ONNX's number.
    pub(super) fn dtype(&self, name: &str) -> Result<Option<DType>, OpError> {
        match self.attr(name) {
            Some(Attr::Int(number)) => {
                let number = i32::try_from(*number).unwrap_or(0);
                crate::onnx::dtype(number).map(Some).map_err(OpError::Unsupported)
            }
            _ => Ok(None),
        }
    }
}
