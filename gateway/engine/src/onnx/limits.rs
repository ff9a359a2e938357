//! How many messages a file may hold. An empty message takes two bytes in a file and hundreds in
//! memory, so they are counted before anything is decoded.

/// The largest graphs that exporters write have some tens of thousands of nodes.
const MESSAGES_MAX: usize = 2_000_000;

/// What the fields of a message hold, of those that the importer decodes.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// A message, string or list element without messages of its own.
    Leaf,
}

impl Message {
    /// The message in a length-delimited field; `None` where the field is no repeated part.
    const fn field(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph | Self::Attribute, 5) => Self::Tensor,
            (Self::Graph, 11 | 12) => Self::ValueInfo,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::ValueInfo, 2) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::TensorType, 2) => Self::Shape,
            (Self::Model, 8 | 14)
            | (Self::Graph, 15)
            | (Self::Function, 4 | 5 | 9)
            | (Self::Node, 1 | 2)
            | (Self::Attribute, 9)
            | (Self::Tensor, 13)
            | (Self::Shape, 1) => Self::Leaf,
            _ => return None,
        })
    }
}

/// Whether the file holds more messages than the importer takes. A file that is not well formed
/// is left to the decoder, which says where.
pub(super) fn too_many_messages(file: &[u8]) -> bool {
    let mut count = 0;
    let mut open = vec![(Message::Model, file)];
    while let Some((message, mut bytes)) = open.pop() {
        while let Some((number, content)) = next_field(&mut bytes) {
            let Some(content) = content else { continue };
            let Some(inner) = message.field(number) else { continue };
            count += 1;
            if count > MESSAGES_MAX {
                return true;
            }
            if !matches!(inner, Message::Leaf) {
                open.push((inner, content));
            }
        }
    }
    false
}

/// The next field's number, and its content where it is length-delimited.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let tag = varint(bytes)?;
    let content = match tag & 7 {
        0 => {
            varint(bytes)?;
            None
        }
        1 => {
            take(bytes, 8)?;
            None
        }
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            Some(take(bytes, length)?)
        }
        5 => {
            take(bytes, 4)?;
            None
        }
        _ => return None,
    };
    Some((tag >> 3, content))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (content, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(content)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
