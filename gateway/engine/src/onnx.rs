//! ONNX files: from bytes to a [`Graph`].
//!
//! It checks what can be checked without shapes: names, order, sizes and paths. A file is input:
//! whatever it holds gives a graph or a [`ModelError`].

mod external;
mod functions;
mod import;
mod limits;

pub mod proto;
mod tensor;

pub(crate) use tensor::dtype;

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use gw_tensor::Tensor;
use prost::Message;

use crate::device::pages;
use crate::error::ModelError;
use crate::graph::{Digester, Graph};
use external::Beside;
use proto::ModelProto;

/// Protobuf cannot hold more in one message.
const FILE_BYTES_MAX: u64 = (2 << 30) - 1;

/// Imports the model file at `path`, with the external data files beside it.
///
/// # Errors
/// [`ModelError`]; never [`ModelError::UnsupportedOps`].
pub fn open(path: &Path) -> Result<Graph, ModelError> {
    let read = |source| ModelError::Read { path: path.to_owned(), source };
    let name = model_name(path);
    let file = File::open(path).map_err(read)?;
    let bytes = file.metadata().map_err(read)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(ModelError::Invalid {
            model: name,
            place: "file".to_owned(),
            reason: format!("{bytes} bytes are more than the {FILE_BYTES_MAX} of an ONNX file"),
        });
    }
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let bytes = pages::read(&file, bytes).map_err(read)?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    decode(bytes, &name, Some(folder.unwrap_or(Path::new("."))))
}

/// Imports a model from memory; one with external data is refused.
///
/// # Errors
/// As [`open`].
pub fn parse(bytes: Bytes, name: &str) -> Result<Graph, ModelError> {
    decode(bytes, name, None)
}

/// The name that errors and metrics use for the model at `path`.
pub(crate) fn model_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Reads one tensor in ONNX's form, as test data and calibration sets are stored.
///
/// # Errors
/// What is wrong with the bytes, in words.
pub fn tensor(bytes: Bytes) -> Result<Tensor, String> {
    let proto = proto::TensorProto::decode(bytes).map_err(|error| error.to_string())?;
    tensor::tensor(proto, &Beside::default())
}

fn decode(bytes: Bytes, name: &str, folder: Option<&Path>) -> Result<Graph, ModelError> {
    if limits::too_many_messages(&bytes) {
        return Err(ModelError::Invalid {
            model: name.to_owned(),
            place: "file".to_owned(),
            reason: "there are more nodes, values and attributes than any model has".to_owned(),
        });
    }
    let mut digest = Digester::default();
    digest.add(&bytes);
    let beside = Beside { folder, digest: RefCell::new(digest) };
    let model = ModelProto::decode(bytes)
        .map_err(|source| ModelError::NotOnnx { model: name.to_owned(), source })?;
    let mut graph = import::import(model, name, &beside)?;
    graph.digest = beside.digest.into_inner().finish();
    Ok(graph)
}
