//! Tables of which a request chooses rows, read from a file row by row.
//!
//! A table of embeddings is tens of MB, of which a text needs some rows. Where the table is mapped,
//! the system brings the neighbours of each row along, 64 KiB for 1.5. So where an input of the
//! model goes into a `Gather` on a large constant as it is, the constant leaves the model, and the
//! rows become one more input, which is read from the file for each run.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytemuck::Pod;
use rten::ValueOrView;
use rten_onnx::onnx::{DataType, GraphProto, ModelProto, TensorProto, TypeProto, TypeProtoTensor};
use rten_onnx::onnx::{NodeProto, ValueInfoProto};
use rten_tensor::Tensor;

/// Smaller tables stay in the model: some pages more are not worth reading row by row.
const BYTES_MIN: usize = 1 << 20;

/// A table that has left its model.
pub(super) struct Table {
    /// The input of the model that chooses rows.
    pub(super) indices: String,
    /// What the model calls the rows: an input, since the table is gone.
    pub(super) rows: String,
    kind: DataType,
    dims: Vec<usize>,
    /// Where the elements begin in the file.
    offset: u64,
    file: Arc<File>,
}

/// A table on its way from the model to a file.
pub(super) struct Taken {
    indices: String,
    rows: String,
    kind: DataType,
    dims: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl Taken {
    /// The table, whose bytes are in `file` from `offset` on by now.
    pub(super) fn at(self, file: &Arc<File>, offset: u64) -> Table {
        let Self { indices, rows, kind, dims, .. } = self;
        Table { indices, rows, kind, dims, offset, file: Arc::clone(file) }
    }
}

/// Takes tables out of a model. One with subgraphs, which may use any name, keeps what it has.
pub(super) fn take(model: &mut ModelProto) -> Vec<Taken> {
    let Some(graph) = &mut model.graph else { return Vec::new() };
    if !cfg!(unix) || graph.node.iter().any(has_subgraph) {
        return Vec::new();
    }
    let mut taken = Vec::new();
    let mut index = 0;
    while index < graph.node.len() {
        match table_of(graph, &graph.node[index]) {
            Some((place, kind, dims)) => {
                let node = graph.node.remove(index);
                taken.extend(split(graph, node, place, kind, dims));
            }
            None => index += 1,
        }
    }
    taken
}

fn has_subgraph(node: &NodeProto) -> bool {
    node.attribute.iter().any(|attribute| attribute.g.is_some())
}

/// Which constant a node gathers rows of, where it is all that reads it and an input of the model
/// chooses the rows; with its type and its dimensions.
fn table_of(graph: &GraphProto, node: &NodeProto) -> Option<(usize, DataType, Vec<usize>)> {
    let is_plain = node.domain.as_deref().is_none_or(|domain| matches!(domain, "" | "ai.onnx"));
    if !is_plain || node.op_type.as_deref() != Some("Gather") {
        return None;
    }
    let [name, indices] = node.input.as_slice() else { return None };
    let [rows] = node.output.as_slice() else { return None };
    if node.attribute.iter().any(|attribute| attribute.i.is_some_and(|axis| axis != 0)) {
        return None;
    }
    let is_called = |port: &ValueInfoProto, name: &str| port.name.as_deref() == Some(name);
    let of_model = graph.input.iter().any(|port| is_called(port, indices));
    let is_input = graph.input.iter().any(|port| is_called(port, name));
    let is_output = graph.output.iter().any(|port| is_called(port, rows) || is_called(port, name));
    let readers = graph.node.iter().flat_map(|node| &node.input).filter(|input| *input == name);
    if !of_model || is_input || is_output || readers.count() != 1 {
        return None;
    }
    let place = graph.initializer.iter().position(|t| t.name.as_deref() == Some(name))?;
    let table = &graph.initializer[place];
    let kind = table.data_type?;
    let size = element_size(kind)?;
    let dims: Vec<usize> =
        table.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    let bytes = table.raw_data.as_ref()?.borrow().len();
    let elements = dims.iter().try_fold(1, |all: usize, &dim| all.checked_mul(dim))?;
    let is_whole = dims.len() > 1 && elements.checked_mul(size) == Some(bytes);
    (is_whole && bytes >= BYTES_MIN).then_some((place, kind, dims))
}

/// Puts an input in the place of the rows that `node` gathers.
fn split(
    graph: &mut GraphProto,
    node: NodeProto,
    place: usize,
    kind: DataType,
    dims: Vec<usize>,
) -> Option<Taken> {
    let TensorProto { raw_data, .. } = graph.initializer.remove(place);
    let (indices, rows) = (node.input.into_iter().nth(1)?, node.output.into_iter().next()?);
    graph.value_info.retain(|port| port.name.as_deref() != Some(&rows));
    let tensor = TypeProtoTensor { elem_type: Some(kind), shape: None };
    let kind_of_rows = TypeProto { tensor_type: Some(tensor), ..TypeProto::default() };
    graph.input.push(ValueInfoProto { name: Some(rows.clone()), r#type: Some(kind_of_rows) });
    Some(Taken { indices, rows, kind, dims, bytes: raw_data?.into_inner() })
}

fn element_size(kind: DataType) -> Option<usize> {
    match kind {
        DataType::FLOAT => Some(4),
        DataType::INT8 | DataType::UINT8 => Some(1),
        _ => None,
    }
}

impl Table {
    /// The rows of these numbers, under the shape that the numbers have. As in ONNX, -1 is the
    /// last row.
    ///
    /// # Errors
    /// For people: a number that no row has, or a file that cannot be read.
    pub(super) fn read(
        &self,
        numbers: &[i32],
        shape: &[usize],
    ) -> Result<ValueOrView<'static>, String> {
        match self.kind {
            DataType::INT8 => self.gather::<i8>(numbers, shape).map(ValueOrView::from),
            DataType::UINT8 => self.gather::<u8>(numbers, shape).map(ValueOrView::from),
            _ => self.gather::<f32>(numbers, shape).map(ValueOrView::from),
        }
    }

    fn gather<T: Pod>(&self, numbers: &[i32], shape: &[usize]) -> Result<Tensor<T>, String> {
        let (count, width) = (self.dims[0], self.dims[1..].iter().product::<usize>());
        let elements = numbers.len().checked_mul(width);
        let elements = elements.ok_or_else(|| "more rows than memory has room for".to_owned())?;
        let mut rows = vec![T::zeroed(); elements];
        for (row, &number) in rows.chunks_exact_mut(width).zip(numbers) {
            let at = match usize::try_from(number) {
                Ok(at) => Some(at).filter(|&at| at < count),
                Err(_) => count.checked_sub(number.unsigned_abs() as usize),
            };
            let at =
                at.ok_or_else(|| format!("{:?} asks for row {number} of {count}", self.indices))?;
            let offset = self.offset + (at * width * size_of::<T>()) as u64;
            read_at(&self.file, bytemuck::cast_slice_mut(row), offset)
                .map_err(|error| format!("reading a row of its weights: {error}"))?;
        }
        let dims = [shape, &self.dims[1..]].concat();
        Ok(Tensor::from_data(&dims, rows))
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// No table leaves its model there.
#[cfg(not(unix))]
fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::cell::RefCell;

    use rten::{ModelOptions, Value};
    use rten_onnx::onnx::{AttributeProto, OperatorSetIdProto};
    use rten_tensor::prelude::*;

    use super::super::mapped::Mapped;
    use super::*;

    const ROWS: usize = 1 << 14;
    const WIDTH: usize = 16;

    fn port(name: &str, kind: DataType) -> ValueInfoProto {
        let tensor = TypeProtoTensor { elem_type: Some(kind), shape: None };
        let kind = TypeProto { tensor_type: Some(tensor), ..TypeProto::default() };
        ValueInfoProto { name: Some(name.to_owned()), r#type: Some(kind) }
    }

    fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    /// `y = -table[ids]`, where the elements of a table of a megabyte are their places.
    fn model() -> ModelProto {
        let places = 0..u32::try_from(ROWS * WIDTH).unwrap();
        #[expect(clippy::cast_precision_loss, reason = "they are below 2^24")]
        let bytes = places.flat_map(|place| (place as f32).to_le_bytes()).collect();
        let table = TensorProto {
            name: Some("table".to_owned()),
            dims: [ROWS, WIDTH].map(|dim| i64::try_from(dim).unwrap()).to_vec(),
            data_type: Some(DataType::FLOAT),
            raw_data: Some(RefCell::new(bytes)),
            ..TensorProto::default()
        };
        let graph = GraphProto {
            node: vec![node("Gather", &["table", "ids"], "rows"), node("Neg", &["rows"], "y")],
            initializer: vec![table],
            input: vec![port("ids", DataType::INT64)],
            output: vec![port("y", DataType::FLOAT)],
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

    /// A model whose graph differs.
    fn changed(change: impl FnOnce(&mut GraphProto)) -> ModelProto {
        let mut model = model();
        change(model.graph.as_mut().unwrap());
        model
    }

    #[test]
    fn a_model_is_given_the_rows_that_its_input_chooses() {
        let loaded = Mapped::load(&ModelOptions::with_all_ops(), model()).unwrap().unwrap();
        let [table] = loaded.tables() else { panic!("it has one table") };
        assert_eq!((table.indices.as_str(), table.rows.as_str()), ("ids", "rows"));
        let node = |name| loaded.model().find_node(name).unwrap();
        let rows = table.read(&[3, -1, 0, 3, 16_383, -16_384], &[2, 3]).unwrap();
        let y = loaded.model().run(vec![(node("rows"), rows)], &[node("y")], None).unwrap();
        let Some(Value::FloatTensor(y)) = y.first() else { panic!("floats") };
        assert_eq!(y.shape(), [2, 3, WIDTH]);
        let last = f64::from(1 << 18) - 16.0;
        let first: Vec<f64> = [48.0, last, 0.0, 48.0, last, 0.0].to_vec();
        for (row, first) in y.to_vec().chunks_exact(WIDTH).zip(first) {
            for (column, value) in (0_u8..).zip(row) {
                assert_eq!(-f64::from(*value), first + f64::from(column));
            }
        }
        for number in [16_384, -16_385, i32::MAX, i32::MIN] {
            let refused = table.read(&[0, number], &[2]).expect_err("no row has this number");
            assert!(refused.contains(&format!("row {number} of 16384")), "{refused}");
        }
        assert!(table.read(&[], &[0, 5]).is_ok(), "no rows at all");
    }

    #[test]
    fn a_table_that_is_read_in_any_other_way_stays() {
        assert_eq!(take(&mut model()).len(), 1);
        let other_axis = AttributeProto { i: Some(1), ..AttributeProto::default() };
        let models = [
            changed(|graph| graph.node[0].attribute.push(other_axis)),
            changed(|graph| graph.node.push(node("Neg", &["table"], "z"))),
            changed(|graph| graph.output.push(port("rows", DataType::FLOAT))),
            changed(|graph| graph.output.push(port("table", DataType::FLOAT))),
            changed(|graph| graph.input.push(port("table", DataType::FLOAT))),
            changed(|graph| graph.node[0].input[1] = "computed".to_owned()),
            changed(|graph| graph.node[0].op_type = Some("GatherND".to_owned())),
            changed(|graph| graph.initializer[0].dims[0] += 1),
            changed(|graph| graph.initializer[0].data_type = Some(DataType::INT32)),
            changed(|graph| {
                let attribute =
                    AttributeProto { g: Some(GraphProto::default()), ..AttributeProto::default() };
                graph.node[1].attribute.push(attribute);
            }),
        ];
        for mut model in models {
            assert_eq!(take(&mut model).len(), 0);
        }
    }
}
