//! Tiny ONNX models, written field by field as `onnx.proto` numbers them.

/// `TensorProto.DataType`.
#[derive(Clone, Copy)]
pub(crate) enum Type {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    U16 = 4,
    I32 = 6,
    I64 = 7,
    Bool = 9,
    F16 = 10,
    F64 = 11,
}

/// A protobuf message under construction.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn int(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint((field << 3) | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
}

/// A model with one chain of nodes.
#[derive(Clone, Default)]
pub(crate) struct Onnx {
    graph: Message,
    opset: u64,
}

impl Onnx {
    pub(crate) fn new() -> Self {
        Self { graph: Message::default().text(2, "test"), opset: 17 }
    }

    /// The version of the operators; 17 where nothing is said.
    pub(crate) fn opset(self, opset: u64) -> Self {
        Self { opset, ..self }
    }

    /// `dims` as text: `batch 3` has one symbol and one fixed dimension.
    pub(crate) fn input(self, name: &str, kind: Type, dims: &str) -> Self {
        Self { graph: self.graph.message(11, &value_info(name, kind, dims)), ..self }
    }

    pub(crate) fn output(self, name: &str, kind: Type, dims: &str) -> Self {
        Self { graph: self.graph.message(12, &value_info(name, kind, dims)), ..self }
    }

    /// A node from text: `y = Add(x, one)`; its name is `node_y`.
    pub(crate) fn node(self, text: &str) -> Self {
        self.add_node(text, &[])
    }

    fn add_node(self, text: &str, attributes: &[Message]) -> Self {
        let (output, call) = text.split_once(" = ").unwrap();
        let (op, inputs) = call.trim_end_matches(')').split_once('(').unwrap();
        let mut node = Message::default();
        for input in inputs.split(", ") {
            node = node.text(1, input);
        }
        for output in output.split(", ") {
            node = node.text(2, output);
        }
        for attribute in attributes {
            node = node.message(5, attribute);
        }
        let name = format!("node_{}", output.split(", ").next().unwrap());
        Self { graph: self.graph.message(1, &node.text(3, &name).text(4, op)), ..self }
    }

    /// As [`Onnx::node`], with attributes that are whole numbers.
    pub(crate) fn node_with(self, text: &str, attributes: &[(&str, u64)]) -> Self {
        let attributes = attributes
            .iter()
            .map(|(name, value)| Message::default().text(1, name).int(3, *value).int(20, 2));
        self.add_node(text, &attributes.collect::<Vec<_>>())
    }

    pub(crate) fn constant(self, name: &str, kind: Type, dims: &[usize], raw: &[u8]) -> Self {
        let dims = dims.iter().fold(Message::default(), |m, &dim| m.int(1, dim as u64));
        let tensor = dims.int(2, kind as u64).text(8, name).bytes(9, raw);
        Self { graph: self.graph.message(5, &tensor), ..self }
    }

    pub(crate) fn floats(self, name: &str, dims: &[usize], values: &[f32]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, Type::F32, dims, &raw)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let opset = Message::default().text(1, "").int(2, self.opset);
        Message::default().int(1, 8).message(8, &opset).message(7, &self.graph).0
    }
}

fn value_info(name: &str, kind: Type, dims: &str) -> Message {
    let shape = dims.split_whitespace().fold(Message::default(), |shape, dim| {
        let dim = match dim.parse() {
            Ok(size) => Message::default().int(1, size),
            Err(_) => Message::default().text(2, dim),
        };
        shape.message(1, &dim)
    });
    let tensor = Message::default().int(1, kind as u64).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

/// `y = x * [[1, 2], [3, 4], [5, 6]] + [0.5, -0.5]`, rows free.
pub(crate) fn linear() -> Onnx {
    Onnx::new()
        .input("x", Type::F32, "batch 3")
        .output("y", Type::F32, "batch 2")
        .floats("w", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .floats("b", &[2], &[0.5, -0.5])
        .node("xw = MatMul(x, w)")
        .node("y = Add(xw, b)")
}

/// What [`linear`] answers for these rows.
pub(crate) fn linear_of(x: &[f32]) -> Vec<f32> {
    let row = |x: &[f32]| {
        [x[0] + 3.0 * x[1] + 5.0 * x[2] + 0.5, 2.0 * x[0] + 4.0 * x[1] + 6.0 * x[2] - 0.5]
    };
    x.chunks(3).flat_map(row).collect()
}

/// Five rows of a table, by index.
pub(crate) fn lookup() -> Onnx {
    let table: Vec<f32> = (0u8..10).map(f32::from).collect();
    Onnx::new()
        .input("ids", Type::I64, "batch sequence")
        .output("rows", Type::F32, "batch sequence 2")
        .floats("table", &[5, 2], &table)
        .node("rows = Gather(table, ids)")
}
