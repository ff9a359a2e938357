//! Reading JSON, and saying what in it is wrong.

use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::Error;

/// Reads a body; see [`crate::Json`] for what can be wrong with it.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().clone();
        explained(error.inner(), &path)
    })?;
    reader.end().map_err(|error| invalid(&error))?;
    Ok(value)
}

fn invalid(error: &serde_json::Error) -> Error {
    Error::new(400, "invalid_json", error.to_string()).field("body")
}

fn explained(error: &serde_json::Error, path: &Path) -> Error {
    if error.classify() != Category::Data {
        return invalid(error);
    }
    let message = error.to_string();
    if let Some(name) = missing_name(&message) {
        let parent = shown(path);
        let field = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        return Error::new(422, "missing_field", message).field(field);
    }
    let code = match () {
        () if message.starts_with("unknown field") => "unknown_field",
        () if message.starts_with("invalid type") => "invalid_type",
        () => "invalid_value",
    };
    let field = shown(path);
    Error::new(422, code, message).field(if field.is_empty() { "body".to_owned() } else { field })
}

/// The field that serde's message misses; its path ends at what should have had it.
pub(super) fn missing_name(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

/// Such as `input[3].text`; empty for the whole.
fn shown(path: &Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                text.push('[');
                text += &index.to_string();
                text.push(']');
            }
            Segment::Map { key: name } | Segment::Enum { variant: name } => {
                if !text.is_empty() {
                    text.push('.');
                }
                text += name;
            }
            Segment::Unknown => {}
        }
    }
    text
}
