//! Which requests may share a run, and how their rows are joined and split.

mod pad;

use gw_engine::Value;
use gw_tensor::Tensor;

pub(crate) use self::pad::{Padding, bucket};
use crate::signature::{Dim, Signature, TensorSpec};

/// The dimensions per input, without the leading one where requests may be joined: those with equal
/// keys share a run. Names and element types need no place in it, because the signature fixes them.
pub(crate) type Key = Vec<Vec<usize>>;

/// Where a request belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) rows: usize,
    /// Whether it may be joined with others of its key, and cut between its rows.
    pub(crate) joins: bool,
    pub(crate) key: Key,
}

/// Whether requests of one model may share a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// Along the leading dimension of every input and output.
    Rows,
    /// Never.
    Alone,
}

impl Joining {
    /// Where it is not known yet whether rows are independent, it is looked at before each run.
    pub(crate) fn of(signature: &Signature, rows_are_independent: Option<bool>) -> Self {
        let may_join = has_batch(signature) && rows_are_independent != Some(false);
        if may_join { Self::Rows } else { Self::Alone }
    }

    /// Where a checked request belongs. What lies on a device is not joined, and lengths that may
    /// grow belong to their bucket.
    pub(crate) fn place(self, inputs: &[Value], padding: Option<&Padding>) -> Place {
        let rows = inputs.first().and_then(|value| value.shape().first().copied());
        // Requests that disagree on their own rows cannot be split again.
        let joins = |value: &Value| value.host().is_some() && Some(value.shape()[0]) == rows;
        match (self, rows) {
            (Self::Rows, Some(rows)) if inputs.iter().all(joins) => {
                let key = inputs.iter().map(|value| value.shape()[1..].to_vec()).collect();
                let key = padding.map_or(key, |padding| padding.key(inputs));
                Place { rows, joins: true, key }
            }
            _ => {
                let key = inputs.iter().map(|value| value.shape().dims().to_vec()).collect();
                Place { rows: 1, joins: false, key }
            }
        }
    }
}

/// Whether every input and output has a free leading dimension, all with the same symbol or all
/// without one, and that symbol names no other dimension: a joined run would change that one too.
pub(crate) fn has_batch(signature: &Signature) -> bool {
    let specs = || signature.inputs.iter().chain(&signature.outputs);
    let Some(batch) = signature.inputs.first().and_then(leading) else { return false };
    let one_batch = specs().all(|spec| leading(spec) == Some(batch));
    let reused = matches!(batch, Dim::Symbol(_))
        && specs().any(|spec| spec.dims.iter().flatten().skip(1).any(|dim| dim == batch));
    one_batch && !reused
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
/// dimension, and repeats the last row `padding` times: any row of a request is a valid one.
///
/// # Panics
/// Where the tensors of one input differ in more than their leading dimension, or lie on a device;
/// equal [`Key`]s exclude both.
pub(crate) fn join(requests: &[&[Value]], padding: usize) -> Vec<Value> {
    let join_input = |input: usize| {
        let parts = requests.iter().map(|request| request[input].host());
        let parts: Option<Vec<&Tensor>> = parts.collect();
        let parts = parts.expect("only host memory is joined");
        let mut dims = parts[0].shape().to_vec();
        let rows: usize = parts.iter().map(|part| part.shape()[0]).sum();
        let bytes: usize = parts.iter().map(|part| part.bytes().len()).sum();
        let row_bytes = bytes / rows.max(1);
        let mut data = Vec::with_capacity(bytes + padding * row_bytes);
        for part in &parts {
            data.extend_from_slice(part.bytes());
        }
        for _ in 0..padding {
            data.extend_from_within(bytes - row_bytes..bytes);
        }
        dims[0] = rows + padding;
        let joined = Tensor::new(parts[0].dtype(), dims, data);
        joined.expect("equal keys have equal row sizes").into()
    };
    (0..requests[0].len()).map(join_input).collect()
}

/// Splits every value into consecutive parts of `rows` rows each, sharing its bytes; one list per
/// part.
pub(crate) fn split(values: &[Value], rows: &[usize]) -> Result<Vec<Vec<Value>>, NotSplittable> {
    let total: usize = rows.iter().sum();
    if values.iter().any(|value| value.shape().first() != Some(&total)) {
        return Err(NotSplittable);
    }
    let mut first = 0;
    let mut parts = Vec::with_capacity(rows.len());
    for &count in rows {
        parts.push(rows_of(values, first, count));
        first += count;
    }
    Ok(parts)
}

/// The rows `first..first + count` of every tensor, sharing its bytes.
pub(crate) fn rows_of(values: &[Value], first: usize, count: usize) -> Vec<Value> {
    let rows = |value: &Value| match value {
        Value::Host(tensor) => slice_rows(tensor, first, count).into(),
        Value::Device(tensor) => Value::Device(tensor.rows(first, count)),
    };
    values.iter().map(rows).collect()
}

/// Puts the parts of one answer together again, each a list with every output. Outputs whose rows
/// differ in size from part to part do not follow the rows of the inputs.
///
/// # Panics
/// Where one of several parts lies on a device: the outputs of a part are not kept there.
pub(crate) fn concat(parts: &[Vec<Value>]) -> Result<Vec<Value>, NotSplittable> {
    if let [whole] = parts {
        return Ok(whole.clone());
    }
    let row = |part: &[Value]| -> Vec<Vec<usize>> {
        part.iter().map(|value| value.shape()[1..].to_vec()).collect()
    };
    if parts.iter().any(|part| row(part) != row(&parts[0])) {
        return Err(NotSplittable);
    }
    let parts: Vec<&[Value]> = parts.iter().map(Vec::as_slice).collect();
    Ok(join(&parts, 0))
}

/// The bytes of all values.
pub(crate) fn bytes(values: &[Value]) -> u64 {
    let bytes = |value: &Value| (value.shape().elements() * value.dtype().size()) as u64;
    values.iter().map(bytes).sum()
}

fn slice_rows(tensor: &Tensor, first: usize, count: usize) -> Tensor {
    let mut dims = tensor.shape().to_vec();
    let row_bytes = tensor.bytes().len() / dims[0].max(1);
    dims[0] = count;
    let data = tensor.bytes().slice(first * row_bytes..(first + count) * row_bytes);
    Tensor::new(tensor.dtype(), dims, data).expect("rows of a tensor have equal sizes")
}

#[cfg(test)]
mod tests {
    use gw_tensor::DType;
    use proptest::prelude::*;

    use super::*;

    /// The dimensions of one tensor from text: `batch 3 ?`.
    fn spec(dims: &str) -> TensorSpec {
        let dim = |text: &str| match text.parse() {
            Ok(size) => Dim::Fixed(size),
            Err(_) if text == "?" => Dim::Unknown,
            Err(_) => Dim::Symbol(text.to_owned()),
        };
        let name = dims.to_owned();
        let dims = Some(dims.split_whitespace().map(dim).collect());
        TensorSpec { name, dtype: DType::F32, dims, entries: None }
    }

    fn joining(inputs: &[&str], outputs: &[&str]) -> Joining {
        let specs = |dims: &[&str]| dims.iter().map(|dims| spec(dims)).collect();
        Joining::of(&Signature { inputs: specs(inputs), outputs: specs(outputs) }, Some(true))
    }

    #[test]
    fn only_models_with_one_free_leading_dimension_are_batched() {
        struct Case(&'static [&'static str], &'static [&'static str], Joining);
        let cases = [
            Case(&["batch seq", "batch seq"], &["batch seq 384"], Joining::Rows),
            Case(&["? 3 224 224"], &["? 1000"], Joining::Rows),
            Case(&["1 3 224 224"], &["1 1000"], Joining::Alone),
            Case(&["batch 3"], &["1 10"], Joining::Alone),
            Case(&["batch 3"], &["detections 6"], Joining::Alone),
            Case(&["batch 3"], &["? 6"], Joining::Alone),
            Case(&["batch 3", "2 batch 128"], &["batch 1"], Joining::Alone),
            Case(&["n n"], &["n"], Joining::Alone),
            Case(&["batch 3", ""], &["batch 3"], Joining::Alone),
            Case(&[], &["batch 3"], Joining::Alone),
        ];
        for Case(inputs, outputs, expected) in cases {
            assert_eq!(joining(inputs, outputs), expected, "{inputs:?} -> {outputs:?}");
        }
    }

    #[test]
    fn models_that_mix_their_rows_are_not_batched() {
        let specs = || vec![spec("batch 3")];
        let signature = Signature { inputs: specs(), outputs: specs() };
        assert_eq!(Joining::of(&signature, Some(false)), Joining::Alone);
    }

    #[test]
    fn a_request_whose_inputs_have_different_rows_runs_alone() {
        let tensor = |rows| Value::from(Tensor::from_slice([rows, 1], &vec![0f32; rows]).unwrap());
        let place = |inputs: &[Value]| Joining::Rows.place(inputs, None);
        let key = vec![vec![2, 1], vec![3, 1]];
        assert_eq!(place(&[tensor(2), tensor(3)]), Place { rows: 1, joins: false, key });
        let key = vec![vec![1], vec![1]];
        assert_eq!(place(&[tensor(2), tensor(2)]), Place { rows: 2, joins: true, key });
    }

    #[test]
    fn outputs_with_other_rows_are_not_split() {
        let tensor = Value::from(Tensor::from_slice([3, 1], &[1f32, 2.0, 3.0]).unwrap());
        assert!(split(std::slice::from_ref(&tensor), &[1, 1]).is_err());
        let scalar = Tensor::from_slice([], &[1f32]).unwrap().into();
        assert!(split(&[tensor, scalar], &[1, 2]).is_err());
    }

    #[test]
    fn parts_whose_rows_differ_are_not_put_together() {
        let tensor = |dims: [usize; 2]| {
            vec![Tensor::from_slice(dims, &vec![1f32; dims[0] * dims[1]]).unwrap().into()]
        };
        assert!(concat(&[tensor([1, 2]), tensor([1, 3])]).is_err());
        let together = concat(&[tensor([1, 2]), tensor([2, 2])]).unwrap();
        assert_eq!(hosts(&together), hosts(&tensor([3, 2])));
    }

    fn hosts(values: &[Value]) -> Vec<Tensor> {
        values.iter().filter_map(Value::host).cloned().collect()
    }

    /// Requests with the same inputs but rows of their own, zero rows included.
    fn requests() -> impl Strategy<Value = Vec<Vec<Value>>> {
        let row_dims = prop::collection::vec(prop::collection::vec(0usize..4, 0..3), 1..4);
        (row_dims, prop::collection::vec(0usize..4, 1..6)).prop_map(|(inputs, rows)| {
            let mut next = 0u8;
            let mut tensor = |rows: usize, dims: &[usize]| {
                let shape: Vec<usize> = [&[rows], dims].concat();
                let count = shape.iter().product::<usize>();
                let mut byte = || {
                    next = next.wrapping_add(1);
                    next
                };
                let data: Vec<u8> = (0..count * 2).map(|_| byte()).collect();
                Value::from(Tensor::new(DType::I16, shape, data).unwrap())
            };
            let mut request =
                |&rows: &usize| inputs.iter().map(|dims| tensor(rows, dims)).collect();
            rows.iter().map(&mut request).collect()
        })
    }

    proptest! {
        #[test]
        fn split_undoes_join(requests in requests(), padding in 0usize..4) {
            let parts: Vec<&[Value]> = requests.iter().map(Vec::as_slice).collect();
            let mut rows: Vec<usize> = parts.iter().map(|part| part[0].shape()[0]).collect();
            let padding = if rows.iter().all(|&rows| rows == 0) { 0 } else { padding };
            let joined = join(&parts, padding);
            rows.push(padding);
            let mut split = split(&joined, &rows).unwrap();
            let padded = split.pop().unwrap();
            let all_hosts = |parts: &[Vec<Value>]| -> Vec<Vec<Tensor>> {
                parts.iter().map(|part| hosts(part)).collect()
            };
            prop_assert_eq!(all_hosts(&split), all_hosts(&requests));
            for (all, padded) in hosts(&joined).iter().zip(hosts(&padded)) {
                let last = all.shape()[0].saturating_sub(padding + 1);
                for row in 0..padding {
                    prop_assert_eq!(slice_rows(&padded, row, 1), slice_rows(all, last, 1));
                }
            }
        }
    }
}
