//! A model in rten whose large constants lie in a mapped file.
//!
//! rten packs what products read and keeps the file's own form beside it, which from then on hardly
//! anything reads: two copies of most weights. In a mapped file the second one takes no memory but
//! that of pages which are read, and the system may take those back.
#![allow(
    unsafe_code,
    reason = "the mapping, and how long it lives: three places, each with its reason"
)]

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};
use rten::{LoadError, Model, ModelOptions};
use rten_onnx::onnx::{DataLocation, DataType, ModelProto, StringStringEntryProto, TensorProto};

use super::tables::{self, Table};

/// Smaller constants stay where they are: a page is 4 KiB.
const BYTES_MIN: usize = 16 << 10;
/// Where constants begin: as wide as any vector that reads them.
const ALIGNMENT: usize = 64;
/// What the split model calls the file, by a suffix that rten takes.
const FILE: &str = "weights.data";
/// The types that rten reads in place.
const IN_PLACE: [DataType; 4] = [DataType::FLOAT, DataType::INT32, DataType::INT8, DataType::UINT8];

/// A loaded model, with the mapping that its constants point into.
pub(super) struct Mapped {
    // Before the mapping, so that it is dropped first.
    model: Model,
    weights: Mmap,
    tables: Vec<Table>,
    declared: Declared,
}

/// The constants that a file declares, without its tables, as rten holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) elements: u64,
    pub(super) bytes: u64,
}

/// What has left a model.
struct Weights {
    /// Its large constants.
    constants: Mmap,
    /// What is behind them in the file.
    tables: Vec<Table>,
    declared: Declared,
}

impl Mapped {
    /// Loads a model whose large constants are in one file with it.
    ///
    /// # Errors
    /// What rten says of the model. `None` is a model without such constants, or one that cannot be
    /// split here: it loads as any other.
    pub(super) fn load(
        options: &ModelOptions,
        mut model: ModelProto,
    ) -> Option<Result<Self, LoadError>> {
        let Weights { constants: weights, tables, declared } = match take_weights(&mut model) {
            Ok(weights) => weights?,
            Err(error) => {
                tracing::warn!(%error, "weights stay in memory: no file for them can be made");
                return None;
            }
        };
        let graph = model.write_buf().ok()?;
        drop(model);
        // SAFETY: nothing but `model` below is given this slice. rten keeps it in the constants of
        // that model and nowhere else, as values that it returns own their elements; and the model
        // is dropped before the mapping.
        let bytes: &'static [u8] =
            unsafe { std::slice::from_raw_parts(weights.as_ptr(), weights.len()) };
        let loaded = options.clone().external_data_static(FILE, bytes).load(graph);
        Some(loaded.map(|model| {
            forget_pages(&weights);
            Self { model, weights, tables, declared }
        }))
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// The tables whose rows it takes as inputs.
    pub(super) fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The constants of its file.
    pub(super) fn declared(&self) -> Declared {
        self.declared
    }

    /// How many bytes of the model's constants take no memory.
    pub(super) fn bytes(&self) -> u64 {
        self.weights.len() as u64
    }
}

/// Moves the large constants of a model into a file that has no name, and maps it; tables follow
/// them there. `None` where there are none, or where some lie in files already.
fn take_weights(model: &mut ModelProto) -> io::Result<Option<Weights>> {
    let Some(graph) = &model.graph else { return Ok(None) };
    let is_elsewhere = |tensor: &TensorProto| tensor.data_location == Some(DataLocation::EXTERNAL);
    if graph.initializer.iter().any(is_elsewhere) || !graph.initializer.iter().any(is_large) {
        return Ok(None);
    }
    let file = Arc::new(tempfile::tempfile()?);
    let mut out = Out { file: BufWriter::new(&file), end: 0 };
    let tables = tables::take(model);
    let declared = model.graph.iter().flat_map(|graph| &graph.initializer).map(Declared::of);
    let declared = declared.fold(Declared::default(), Declared::plus);
    let constants = model.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
    for tensor in constants.filter(|tensor| is_large(tensor)) {
        let Some(bytes) = tensor.raw_data.take() else { continue };
        let bytes = bytes.into_inner();
        let start = out.write(&bytes)?;
        tensor.data_location = Some(DataLocation::EXTERNAL);
        let entries = [
            ("location", FILE.to_owned()),
            ("offset", start.to_string()),
            ("length", bytes.len().to_string()),
        ];
        tensor.external_data = entries.into_iter().map(entry).collect();
    }
    let end = out.end;
    let tables = tables.into_iter().map(|table| {
        let start = out.write(&table.bytes)?;
        Ok(table.at(&file, start as u64))
    });
    let tables = tables.collect::<io::Result<_>>()?;
    out.file.flush()?;
    drop(out);
    Ok(Some(Weights { constants: map(&file, end)?, tables, declared }))
}

impl Declared {
    /// rten has bytes, and holds all else in four of them.
    fn of(tensor: &TensorProto) -> Self {
        let size = |&dim: &i64| u64::try_from(dim).unwrap_or_default();
        let elements = tensor.dims.iter().map(size).fold(1, u64::saturating_mul);
        let width = match tensor.data_type {
            Some(DataType::INT8 | DataType::UINT8) => 1,
            _ => 4,
        };
        Self { elements, bytes: elements.saturating_mul(width) }
    }

    fn plus(self, other: Self) -> Self {
        let elements = self.elements.saturating_add(other.elements);
        Self { elements, bytes: self.bytes.saturating_add(other.bytes) }
    }
}

/// A file that is written from its beginning.
struct Out<'a> {
    file: BufWriter<&'a File>,
    end: usize,
}

impl Out<'_> {
    /// Where the bytes begin.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let start = self.end.next_multiple_of(ALIGNMENT);
        self.file.write_all(&[0; ALIGNMENT][..start - self.end])?;
        self.file.write_all(bytes)?;
        self.end = start + bytes.len();
        Ok(start)
    }
}

fn entry((key, value): (&str, String)) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) }
}

fn is_large(tensor: &TensorProto) -> bool {
    let in_place = tensor.data_type.is_some_and(|kind| IN_PLACE.contains(&kind));
    in_place && tensor.raw_data.as_ref().is_some_and(|bytes| bytes.borrow().len() >= BYTES_MIN)
}

/// The first `length` bytes.
fn map(file: &File, length: usize) -> io::Result<Mmap> {
    // SAFETY: the file has no name, so nobody else can change it or make it shorter.
    unsafe { MmapOptions::new().len(length).map(file) }
}

/// Lets go of the pages that loading has read. What is read later comes from the file.
#[cfg(unix)]
fn forget_pages(weights: &Mmap) {
    // SAFETY: pages of a file that was only read say the same when they are read again.
    let forgotten = unsafe { weights.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    if let Err(error) = forgotten {
        tracing::debug!(%error, "pages of weights stay");
    }
}

#[cfg(not(unix))]
fn forget_pages(_: &Mmap) {}

#[cfg(test)]
pub(super) mod tests {
    use rten::{NodeId, Value};
    use rten_onnx::onnx::{
        Dimension, GraphProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto,
        TypeProtoTensor, ValueInfoProto,
    };
    use rten_tensor::Tensor;
    use rten_tensor::prelude::*;

    use super::*;

    /// `y = x W + b`, with 64 by 128 weights, whose numbers are their places.
    pub(in super::super) fn product() -> ModelProto {
        let constant = |name: &str, dims: &[i64]| {
            let count = u16::try_from(dims.iter().product::<i64>()).unwrap();
            let bytes = (0..count).flat_map(|place| f32::from(place).to_le_bytes()).collect();
            TensorProto {
                name: Some(name.to_owned()),
                dims: dims.to_vec(),
                data_type: Some(DataType::FLOAT),
                raw_data: Some(std::cell::RefCell::new(bytes)),
                ..TensorProto::default()
            }
        };
        let port = |name: &str, size| {
            let dim = |size| Dimension { dim_value: Some(size), ..Dimension::default() };
            let shape = TensorShapeProto { dim: vec![dim(1), dim(size)] };
            let tensor = TypeProtoTensor { elem_type: Some(DataType::FLOAT), shape: Some(shape) };
            let kind = TypeProto { tensor_type: Some(tensor), ..TypeProto::default() };
            ValueInfoProto { name: Some(name.to_owned()), r#type: Some(kind) }
        };
        let node = NodeProto {
            op_type: Some("Gemm".to_owned()),
            input: ["x", "w", "b"].map(str::to_owned).to_vec(),
            output: vec!["y".to_owned()],
            ..NodeProto::default()
        };
        let graph = GraphProto {
            node: vec![node],
            initializer: vec![constant("b", &[128]), constant("w", &[64, 128])],
            input: vec![port("x", 64)],
            output: vec![port("y", 128)],
            ..GraphProto::default()
        };
        let opset = OperatorSetIdProto { version: Some(17), ..OperatorSetIdProto::default() };
        ModelProto {
            ir_version: Some(8),
            graph: Some(graph),
            opset_import: vec![opset],
            ..ModelProto::default()
        }
    }

    #[test]
    fn a_mapped_model_computes_with_the_weights_of_its_file() {
        let mut options = ModelOptions::with_all_ops();
        options.prepack_weights(true);
        let mapped = Mapped::load(&options, product()).expect("its weights are large").unwrap();
        assert_eq!(mapped.bytes(), 64 * 128 * 4, "the bias is small");
        let elements = 64 * 128 + 128;
        assert_eq!(mapped.declared(), Declared { elements, bytes: 4 * elements });
        let node = |name| -> NodeId { mapped.model().find_node(name).unwrap() };
        let x = Tensor::from_data(&[1, 64], (0..64_u8).map(f32::from).collect::<Vec<_>>());
        for _ in 0..2 {
            let inputs = vec![(node("x"), x.view().into())];
            let y = mapped.model().run(inputs, &[node("y")], None).unwrap().remove(0);
            let Value::FloatTensor(y) = y else { panic!("floats") };
            // Column 5: the sum of i (128 i + 5) for i below 64, and 5.
            let squares: u32 = (0..64).map(|i| i * i).sum();
            let sum: u32 = (0..64).sum();
            assert_eq!(f64::from(y.to_vec()[5]), f64::from(128 * squares + 5 * sum + 5));
            // What is forgotten is read again.
            forget_pages(&mapped.weights);
        }
    }

    #[test]
    fn what_is_small_or_lies_in_a_file_already_is_left_where_it_is() {
        let mut small = product();
        let graph = small.graph.as_mut().unwrap();
        graph.initializer.truncate(1);
        assert!(take_weights(&mut small).unwrap().is_none());
        let mut external = product();
        let graph = external.graph.as_mut().unwrap();
        graph.initializer[0].data_location = Some(DataLocation::EXTERNAL);
        assert!(take_weights(&mut external).unwrap().is_none());
    }
}
