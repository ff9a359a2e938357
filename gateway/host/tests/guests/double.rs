//! The model `double`.

/// An ONNX file: one `Add` over `x: f32 [batch, n]`.
pub(crate) fn onnx() -> Vec<u8> {
    let dim = |name: &str| field(1, &field(2, name.as_bytes()));
    let shape = [dim("batch"), dim("n")].concat();
    let tensor = [varint(1, 1), field(2, &shape)].concat();
    let value = |name: &str| [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat();
    let node = [field(1, b"x"), field(1, b"x"), field(2, b"y"), field(4, b"Add")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &value("x")), field(12, &value("y"))];
    [varint(1, 8), field(8, &varint(2, 13)), field(7, &graph.concat())].concat()
}

/// A field of protocol buffers: its number, its length, its bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a small message");
    assert!(length < 128, "one byte of length");
    [&[number << 3 | 2, length], bytes].concat()
}

fn varint(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}
