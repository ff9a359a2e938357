//! Which requests may share a run, and how their rows are joined and split.

use gw_tensor::Tensor;

use crate::signature::{Dim, Signature, TensorSpec};

/// The dimensions behind the leading one, per input: requests with equal keys may share a run.
/// Names and element types need no place in it, because the signature fixes them.
pub(crate) type Key = Vec<Vec<usize>>;

/// Whether requests of one model may share a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// Along the leading dimension of every input and output.
    Rows,
    /// Never.
    Alone,
}

impl Joining {
    /// Rows may be joined where every input and output has a free leading dimension, all with the
    /// same symbol or all without one, and where that symbol names no other dimension: a joined
    /// run would change that one too.
    pub(crate) fn of(signature: &Signature, rows_are_independent: bool) -> Self {
        let specs = || signature.inputs.iter().chain(&signature.outputs);
        let Some(batch) = signature.inputs.first().and_then(leading) else { return Self::Alone };
        let one_batch = specs().all(|spec| leading(spec) == Some(batch));
        let reused = matches!(batch, Dim::Symbol(_))
            && specs().any(|spec| spec.dims.iter().flatten().skip(1).any(|dim| dim == batch));
        if rows_are_independent && one_batch && !reused { Self::Rows } else { Self::Alone }
    }

    /// The rows of a checked request and the key under which it may be joined.
    pub(crate) fn place(self, inputs: &[Tensor]) -> (usize, Option<Key>) {
        let rows = inputs.first().and_then(|tensor| tensor.shape().first().copied());
        match (self, rows) {
            // Requests that disagree on their own rows cannot be split again.
            (Self::Rows, Some(rows)) if inputs.iter().all(|t| t.shape()[0] == rows) => {
                let key = inputs.iter().map(|tensor| tensor.shape()[1..].to_vec()).collect();
                (rows, Some(key))
            }
            _ => (1, None),
        }
    }
}

fn leading(spec: &TensorSpec) -> Option<&Dim> {
    match spec.dims.as_ref()?.first()? {
        Dim::Fixed(_) => None,
        free => Some(free),
    }
}

/// The outputs of a run did not have one row per row of its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotSplittable;

/// Joins the tensors of several requests, each a list in the signature's order, along the leading
/// dimension.
///
/// # Panics
/// Where the tensors of one input differ in more than their leading dimension; equal [`Key`]s
/// exclude it.
pub(crate) fn join(requests: &[&[Tensor]]) -> Vec<Tensor> {
    (0..requests[0].len())
        .map(|input| {
            let parts: Vec<&Tensor> = requests.iter().map(|request| &request[input]).collect();
            let mut dims = parts[0].shape().to_vec();
            dims[0] = parts.iter().map(|part| part.shape()[0]).sum();
            let bytes = parts.iter().map(|part| part.bytes().len()).sum();
            let mut data = Vec::with_capacity(bytes);
            for part in &parts {
                data.extend_from_slice(part.bytes());
            }
            Tensor::new(parts[0].dtype(), dims, data).expect("equal keys have equal row sizes")
        })
        .collect()
}

/// Splits every tensor into consecutive parts of `rows` rows each, sharing its bytes; one list per
/// part.
pub(crate) fn split(tensors: &[Tensor], rows: &[usize]) -> Result<Vec<Vec<Tensor>>, NotSplittable> {
    let total: usize = rows.iter().sum();
    if tensors.iter().any(|tensor| tensor.shape().first() != Some(&total)) {
        return Err(NotSplittable);
    }
    let mut first = 0;
    let mut parts = Vec::with_capacity(rows.len());
    for &count in rows {
        parts.push(tensors.iter().map(|tensor| slice_rows(tensor, first, count)).collect());
        first += count;
    }
    Ok(parts)
}

fn slice_rows(tensor: &Tensor, first: usize, count: usize) -> Tensor {
    let mut dims = tensor.shape().to_vec();
    let row_bytes = tensor.bytes().len() / dims[0].max(1);
    dims[0] = count;
    let data = tensor.bytes().slice(first * row_bytes..(first + count) * row_bytes);
    Tensor::new(tensor.dtype(), dims, data).expect("rows of a tensor have equal sizes")
}
