//! Tiny ONNX files, written field by field: the tests need no generator and no stored binaries.

/// One field of a protobuf message with bytes in it.
fn bytes(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    varint(&mut field, content.len() as u64);
    field.extend_from_slice(content);
    field
}

/// One field with a number.
fn number(tag: u8, value: u64) -> Vec<u8> {
    let mut field = vec![tag << 3];
    varint(&mut field, value);
    field
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// A `ValueInfoProto` of floats; a dimension is a number or a name.
fn port(name: &str, dims: &[&str]) -> Vec<u8> {
    let dim = |dim: &&str| match dim.parse() {
        Ok(size) => bytes(1, &number(1, size)),
        Err(_) => bytes(1, &bytes(2, dim.as_bytes())),
    };
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let tensor = [number(1, 1), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// A model with the inputs `a` and `in:b/0` of shape `[batch, 3]` and one node.
pub(crate) fn model(op: &str) -> Vec<u8> {
    let node = [
        bytes(1, b"a"),
        bytes(1, b"in:b/0"),
        bytes(2, b"out:c/0"),
        bytes(3, b"the_node"),
        bytes(4, op.as_bytes()),
    ]
    .concat();
    let graph = [
        bytes(1, &node),
        bytes(2, b"tiny"),
        bytes(11, &port("a", &["batch", "3"])),
        bytes(11, &port("in:b/0", &["batch", "3"])),
        bytes(12, &port("out:c/0", &["batch", "3"])),
    ]
    .concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 17))].concat()
}
