//! Small ONNX files, written in a few lines.

use bytes::Bytes;
use gw_engine::Model;
use gw_engine::onnx::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use prost::Message;

/// ONNX's numbers of the element types that these tests use.
pub const FLOAT: i32 = 1;
pub const FLOAT16: i32 = 10;
pub const UINT8: i32 = 2;
pub const INT8: i32 = 3;
pub const INT64: i32 = 7;
pub const BOOL: i32 = 9;
pub const BFLOAT16: i32 = 16;

/// A file being written. Node outputs are named by the caller; shapes are left open.
#[derive(Clone, Default)]
pub struct Onnx {
    pub graph: GraphProto,
    pub opset: i64,
}

/// An attribute's value.
#[derive(Clone)]
pub enum Value {
    Float(f32),
    Floats(Vec<f32>),
    Int(i64),
    Ints(Vec<i64>),
    Text(&'static str),
    Texts(Vec<&'static str>),
    Graph(GraphProto),
}

impl Onnx {
    pub fn new(opset: i64) -> Self {
        Self { opset, ..Self::default() }
    }

    pub fn input(mut self, name: &str, dtype: i32, dims: &[i64]) -> Self {
        self.graph.input.push(value(name, dtype, dims));
        self
    }

    pub fn output(mut self, name: &str) -> Self {
        self.graph.output.push(ValueInfoProto { name: name.to_owned(), r#type: None });
        self
    }

    pub fn floats(mut self, name: &str, dims: &[i64], data: &[f32]) -> Self {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type: FLOAT,
            float_data: data.to_vec(),
            ..TensorProto::default()
        });
        self
    }

    pub fn ints(mut self, name: &str, data: &[i64]) -> Self {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            dims: vec![data.len() as i64],
            data_type: INT64,
            int64_data: data.to_vec(),
            ..TensorProto::default()
        });
        self
    }

    pub fn bytes(self, name: &str, dims: &[i64], data: &[i8]) -> Self {
        self.raw(name, INT8, dims, bytemuck::cast_slice::<i8, u8>(data))
    }

    /// The bytes of a constant of any type.
    pub fn raw(mut self, name: &str, dtype: i32, dims: &[i64], data: &[u8]) -> Self {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type: dtype,
            raw_data: Bytes::copy_from_slice(data),
            ..TensorProto::default()
        });
        self
    }

    /// Floats rounded to sixteen bits: `FLOAT16`, or `BFLOAT16`.
    pub fn halves(self, name: &str, dtype: i32, dims: &[i64], data: &[f32]) -> Self {
        let bits = |&value: &f32| match dtype {
            FLOAT16 => half::f16::from_f32(value).to_bits(),
            _ => half::bf16::from_f32(value).to_bits(),
        };
        let bytes: Vec<u8> = data.iter().flat_map(|value| bits(value).to_le_bytes()).collect();
        self.raw(name, dtype, dims, &bytes)
    }

    /// Random floats, the same in every run: their name is their seed.
    pub fn weights(self, name: &str, dims: &[i64]) -> Self {
        let count = usize::try_from(dims.iter().product::<i64>()).unwrap();
        let data = noise(name, count);
        self.floats(name, dims, &data)
    }

    /// `op(inputs) -> output`, or `a,b` for several outputs.
    pub fn node(self, op: &str, inputs: &[&str], output: &str) -> Self {
        self.node_with(op, inputs, output, &[])
    }

    /// The domain stands before the name of the operator.
    pub fn node_with(
        mut self,
        op: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, Value)],
    ) -> Self {
        let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
        self.graph.node.push(NodeProto {
            domain: domain.to_owned(),
            op_type: op.to_owned(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: output.split(',').map(str::to_owned).collect(),
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            ..NodeProto::default()
        });
        self
    }

    pub fn proto(&self) -> ModelProto {
        ModelProto {
            ir_version: 8,
            graph: Some(self.graph.clone()),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: self.opset }],
            ..ModelProto::default()
        }
    }

    pub fn file(&self) -> Bytes {
        self.proto().encode_to_vec().into()
    }

    pub fn model(&self) -> Model {
        Model::parse(self.file(), "test").unwrap()
    }
}

/// Floats in [-1, 1), the same for the same name.
pub fn noise(name: &str, count: usize) -> Vec<f32> {
    // FNV-1a for the seed, then the generator of Numerical Recipes.
    let seed = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
    .take(count)
    .collect()
}

pub fn value(name: &str, dtype: i32, dims: &[i64]) -> ValueInfoProto {
    // A negative size stands for a dimension of a name: -1 for `n`, -2 for `n2`.
    let dim = |&size: &i64| match size {
        0.. => DimensionProto { dim_value: Some(size), dim_param: None },
        -1 => DimensionProto { dim_value: None, dim_param: Some("n".to_owned()) },
        _ => DimensionProto { dim_value: None, dim_param: Some(format!("n{}", -size)) },
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = TensorTypeProto { elem_type: dtype, shape: Some(shape) };
    let declared = TypeProto { tensor_type: Some(tensor), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(declared) }
}

fn attribute(name: &str, value: &Value) -> AttributeProto {
    let mut proto = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
    match value {
        Value::Float(value) => (proto.r#type, proto.f) = (AttributeProto::FLOAT, *value),
        Value::Floats(values) => {
            (proto.r#type, proto.floats) = (AttributeProto::FLOATS, values.clone());
        }
        Value::Texts(texts) => {
            proto.r#type = AttributeProto::STRINGS;
            proto.strings = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        }
        Value::Int(value) => (proto.r#type, proto.i) = (AttributeProto::INT, *value),
        Value::Ints(values) => {
            (proto.r#type, proto.ints) = (AttributeProto::INTS, values.clone());
        }
        Value::Text(text) => {
            (proto.r#type, proto.s) = (AttributeProto::STRING, text.as_bytes().to_vec());
        }
        Value::Graph(graph) => {
            (proto.r#type, proto.g) = (AttributeProto::GRAPH, Some(graph.clone()));
        }
    }
    proto
}
