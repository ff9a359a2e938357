//! Weights in device form: made once per model, shared by its plans.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use gw_tensor::{DType, Tensor};

use super::Lowering;
use crate::error::OpError;
use crate::graph::{Digest, Graph};
use crate::net::{Operand, fold};
use crate::plan::{BufferId, BufferKind};

/// Elements that one plan may write out beyond those that the model stores: 512 MiB.
pub(super) const REPEATS_MAX: usize = 1 << 27;

/// Bytes in device form by key. A key names the tensor and what was done to it.
#[derive(Debug, Default)]
pub(crate) struct Constants {
    made: Mutex<HashMap<String, Bytes>>,
    folded: Mutex<HashMap<String, Tensor>>,
    digests: Mutex<HashMap<String, Digest>>,
    /// How many there were when their bytes were counted, and those.
    counted: Mutex<Option<(usize, u64)>>,
}

impl Constants {
    fn bytes(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<Bytes, OpError>,
    ) -> Result<Bytes, OpError> {
        // A panic elsewhere leaves the map whole: every insertion is one step.
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if let Some(bytes) = made {
            return Ok(bytes);
        }
        let bytes = make()?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(made.entry(key.to_owned()).or_insert(bytes).clone())
    }

    /// The bytes under `key`, where some plan has them already.
    pub(crate) fn known(&self, key: &str) -> Option<Bytes> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Takes bytes that an earlier process made.
    pub(crate) fn keep(&self, key: &str, bytes: Bytes) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(key.to_owned()).or_insert(bytes);
    }

    /// The digest of the bytes under `key`, computed once.
    pub(crate) fn digest(&self, key: &str, bytes: &[u8]) -> Digest {
        let known = self.digests.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
        known.unwrap_or_else(|| {
            let digest = Digest::of(bytes);
            let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
            digests.insert(key.to_owned(), digest);
            digest
        })
    }

    /// A constant that was computed from initialisers alone, which is the same in every plan.
    pub(crate) fn folded(
        &self,
        key: &str,
        make: impl FnOnce() -> Option<Tensor>,
    ) -> Option<Tensor> {
        let known = self.folded.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if known.is_some() {
            return known;
        }
        let tensor = make()?;
        let mut folded = self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        Some(folded.entry(key.to_owned()).or_insert(tensor).clone())
    }
}

impl Constants {
    /// Bytes of host memory that these and the constants of `graph` hold. What is the same in the
    /// file and on the device, or a part of it, is there once.
    pub(crate) fn held(&self, graph: &Graph) -> u64 {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let folded = self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let count = made.len() + folded.len();
        if let Some((_, bytes)) = counted.filter(|(known, _)| *known == count) {
            return bytes;
        }
        let read = graph.values.iter().filter_map(|value| value.constant.as_ref());
        let tensors = read.chain(folded.values()).map(Tensor::bytes);
        let mut places: Vec<Range<usize>> = (tensors.chain(made.values()))
            .map(|bytes| bytes.as_ptr().addr()..bytes.as_ptr().addr() + bytes.len())
            .collect();
        places.sort_unstable_by_key(|place| place.start);
        let mut end = 0;
        let mut held = 0;
        for place in places {
            held += place.end.saturating_sub(place.start.max(end)) as u64;
            end = end.max(place.end);
        }
        *counted = Some((count, held));
        held
    }
}

impl Lowering<'_> {
    /// A buffer with what a constant operand sees, one word per element.
    pub(super) fn weight(&mut self, operand: &Operand) -> Result<BufferId, OpError> {
        self.converted(operand, "", on_device)
    }

    /// Takes elements that repeat stored ones off what a plan may write out.
    fn spend(&mut self, elements: usize) -> Result<(), OpError> {
        match self.budget.checked_sub(elements) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => Err(OpError::Unsupported(format!(
                "writing out more than {REPEATS_MAX} repeated elements of constants"
            ))),
        }
    }

    /// A buffer with a constant operand in the form that `convert` makes; `form` names it.
    pub(super) fn converted(
        &mut self,
        operand: &Operand,
        form: &str,
        convert: impl FnOnce(&Tensor) -> Result<Bytes, OpError>,
    ) -> Result<BufferId, OpError> {
        let key = format!("{}{form}", key(self.net, operand));
        let net = self.net;
        let make = || {
            let data = net.constant(operand);
            convert(&data.ok_or_else(|| OpError::Dynamic("a weight".to_owned()))?)
        };
        let tensor = net.tensor(operand.tensor);
        self.spend(operand.layout.elements().saturating_sub(tensor.shape.elements()))?;
        // What depends on the shapes of a run goes with its plan.
        let bytes = if tensor.stable { self.constants.bytes(&key, make)? } else { make()? };
        let existing = self.plan.buffers.iter().position(
            |buffer| matches!(&buffer.kind, BufferKind::Weight { key: other, .. } if *other == key),
        );
        if let Some(index) = existing {
            // Buffers are counted in `u32` where they are made.
            return Ok(BufferId(u32::try_from(index).expect("plans are bounded")));
        }
        let elements = bytes.len().div_ceil(4);
        let name = key.clone();
        Ok(self.add_buffer(
            &name,
            BufferKind::Weight { key, data: bytes, shared: tensor.stable },
            elements,
        ))
    }
}

/// One word per element.
pub(super) fn on_device(data: &Tensor) -> Result<Bytes, OpError> {
    fold::device_bytes(data)
        .map_err(|value| OpError::mismatch("a constant", "integers of 32 bits", value))
}

/// What names the data that a constant operand sees, in every plan of a model alike.
pub(crate) fn key(net: &crate::net::Net, operand: &Operand) -> String {
    let tensor = net.tensor(operand.tensor);
    let mut key = tensor.name.clone();
    if !tensor.stable {
        // What a plan computes from its shapes has the same name in every plan, and other data.
        let mut hasher = DefaultHasher::new();
        if let Some(data) = &tensor.constant {
            data.bytes().hash(&mut hasher);
        }
        key = format!("{key}#{:016x}", hasher.finish());
    }
    if operand.dtype != tensor.dtype {
        key = format!("{key} {}", operand.dtype);
    }
    let is_whole = operand.layout.elements() == tensor.shape.elements();
    if !(is_whole && operand.layout.is_dense()) {
        key = format!("{key} {}", operand.layout);
    } else if tensor.dtype != DType::F32 {
        key = format!("{key} {}", tensor.dtype);
    }
    key
}
