//! The model `double`, in any type and with any names.

/// `FLOAT` of ONNX' element types.
pub(crate) const FLOAT: u8 = 1;

/// As the guests know it: over `x: f32 [batch, n]`, to `y`.
pub(crate) fn onnx() -> Vec<u8> {
    doubling(FLOAT, "x", "y")
}

/// An ONNX file: one `Add` of the input `x` to itself over `[batch, n]`, whose elements have the
/// type of this number.
pub(crate) fn doubling(elements: u8, x: &str, y: &str) -> Vec<u8> {
    sum(elements, &[x], [x, x], y)
}

/// An ONNX file: `y = h + x` of floats over `[batch, n]`, `x` first.
#[allow(dead_code, reason = "few programs have models with state")]
pub(crate) fn adding() -> Vec<u8> {
    sum(FLOAT, &["x", "h"], ["h", "x"], "y")
}

fn sum(elements: u8, inputs: &[&str], terms: [&str; 2], y: &str) -> Vec<u8> {
    let dim = |name: &str| field(1, &field(2, name.as_bytes()));
    let shape = [dim("batch"), dim("n")].concat();
    let tensor = [varint(1, elements), field(2, &shape)].concat();
    let value = |name: &str| [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat();
    let terms = terms.map(|term| field(1, term.as_bytes())).concat();
    let node = [terms, field(2, y.as_bytes()), field(4, b"Add")].concat();
    let inputs: Vec<_> = inputs.iter().map(|input| field(11, &value(input))).collect();
    let graph = [field(1, &node), field(2, b"g"), inputs.concat(), field(12, &value(y))];
    // The first version of the operators in which `Add` takes bytes.
    [varint(1, 8), field(8, &varint(2, 14)), field(7, &graph.concat())].concat()
}

/// A field of protocol buffers: its number, its length, its bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a small message");
    // Seven bits in each byte of the length; the highest says that another follows.
    let length = if length < 128 { vec![length] } else { vec![length | 128, 1] };
    [&[number << 3 | 2], &length[..], bytes].concat()
}

fn varint(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}
