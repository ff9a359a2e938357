//! The graphs and execution contexts of one guest, by number.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use gw_inference::{Model, TensorSpec};

use super::dialect::{Described, Fault};
use super::memory::Memory;
use crate::imports::nn::context::ExecutionContext;
use crate::imports::nn::tensor::NnTensor;
use crate::imports::nn::{Graph, Named, Nn};

/// What the numbers of a guest stand for. Graphs and contexts share one count, so that one is
/// never taken for the other, and a number that was given back is not given out again.
pub(crate) struct Handles {
    graphs: HashMap<u32, Graph>,
    contexts: HashMap<u32, Context>,
    next: u32,
    /// How many there may be at once.
    max: usize,
    /// Why the last call failed that did.
    fault: Option<String>,
}

/// An execution context, and whether the only step of its sequence was taken.
struct Context {
    bound: ExecutionContext,
    stepped: bool,
}

impl Handles {
    pub(crate) fn new(max: usize) -> Self {
        Self { graphs: HashMap::new(), contexts: HashMap::new(), next: 0, max, fault: None }
    }

    pub(super) fn note(&mut self, fault: String) {
        self.fault = Some(fault);
    }

    /// Why the last call failed that did.
    pub(crate) fn fault(self) -> Option<String> {
        self.fault
    }

    /// A number for a graph.
    pub(super) fn add(&mut self, graph: Graph) -> Result<u32, Fault> {
        let handle = self.number()?;
        self.graphs.insert(handle, graph);
        Ok(handle)
    }

    /// Whether one more handle may be made.
    pub(super) fn check_room(&self) -> Result<(), Fault> {
        if self.graphs.len() + self.contexts.len() < self.max {
            return Ok(());
        }
        Err(Fault::too_large(format!("there are {} graphs and contexts already", self.max)))
    }

    fn number(&mut self) -> Result<u32, Fault> {
        self.check_room()?;
        let handle = self.next;
        self.next = handle.checked_add(1).ok_or_else(|| Fault::too_large("no number is left"))?;
        Ok(handle)
    }

    /// A new context of a graph.
    pub(super) fn begin(&mut self, graph: u32) -> Result<u32, Fault> {
        let graph = self.graphs.get(&graph).ok_or_else(|| no("graph", graph))?;
        let context = Context { bound: ExecutionContext::new(graph), stepped: false };
        let handle = self.number()?;
        self.contexts.insert(handle, context);
        Ok(handle)
    }

    /// Forgets a graph; its contexts keep the model.
    pub(super) fn unload(&mut self, graph: u32) -> Result<(), Fault> {
        self.graphs.remove(&graph).map(drop).ok_or_else(|| no("graph", graph))
    }

    /// Forgets a context.
    pub(super) fn end(&mut self, context: u32) -> Result<(), Fault> {
        self.contexts.remove(&context).map(drop).ok_or_else(|| no("context", context))
    }

    /// Copies an input out of the guest's memory, in place of an earlier one.
    pub(super) fn set_input(
        &mut self,
        nn: &Nn,
        context: u32,
        index: u32,
        tensor: Described,
        memory: &Memory<'_>,
    ) -> Result<(), Fault> {
        let context = self.context(context)?;
        let model = context.bound.model();
        let name = port(&model.signature().inputs, "inputs", index)?;
        let Described { ty, dims, data: (pointer, length) } = tensor;
        let data = memory.slice(pointer, length)?;
        let copy = || (dims.clone(), Bytes::copy_from_slice(data));
        let claim = NnTensor::claim(&nn.allowance, ty, (dims.len(), length), copy);
        context.bound.bind(name.to_owned(), claim)?;
        context.stepped = false;
        Ok(())
    }

    /// What a context asks its model. Inputs stay set, for the next time.
    pub(super) fn question(&mut self, context: u32) -> Result<(Arc<Model>, Named), Fault> {
        Ok(self.context(context)?.bound.bound())
    }

    /// Keeps an answer.
    pub(super) fn answer(&mut self, context: u32, outputs: Named) -> Result<(), Fault> {
        self.context(context)?.bound.keep(outputs);
        Ok(())
    }

    /// An output of the last run.
    pub(super) fn output(&mut self, context: u32, index: u32) -> Result<NnTensor, Fault> {
        let context = self.context(context)?;
        let model = context.bound.model();
        let name = port(&model.signature().outputs, "outputs", index)?;
        Ok(context.bound.output(name)?)
    }

    /// Whether the only step of a sequence was taken.
    pub(super) fn stepped(&mut self, context: u32) -> Result<bool, Fault> {
        Ok(self.context(context)?.stepped)
    }

    pub(super) fn step(&mut self, context: u32) -> Result<(), Fault> {
        self.context(context)?.stepped = true;
        Ok(())
    }

    /// Ends a sequence: its output and its state are gone, and another may begin.
    pub(super) fn restart(&mut self, context: u32) -> Result<(), Fault> {
        let context = self.context(context)?;
        context.bound.restart();
        context.stepped = false;
        Ok(())
    }

    fn context(&mut self, handle: u32) -> Result<&mut Context, Fault> {
        self.contexts.get_mut(&handle).ok_or_else(|| no("context", handle))
    }
}

fn no(what: &str, handle: u32) -> Fault {
    Fault::invalid(format!("there is no {what} {handle}"))
}

/// The name of an input or output by its place in the model's signature.
fn port<'m>(ports: &'m [TensorSpec], what: &str, index: u32) -> Result<&'m str, Fault> {
    let count = ports.len();
    let port = ports.get(index as usize).map(|port| port.name.as_str());
    port.ok_or_else(|| Fault::invalid(format!("the model has {count} {what}, none is {index}")))
}
