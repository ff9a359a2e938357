//! Requests of different lengths, made equal so that they share a run.
//!
//! An input whose manifest names a value to fill it with may grow in the dimensions that have a
//! symbol; outputs with the same symbol are cut back. Lengths are grouped in buckets, so that at
//! most a third of a run is fill.

use std::collections::BTreeMap;

use gw_engine::Value;
use gw_tensor::{DType, Tensor};
use half::{bf16, f16};

use crate::signature::{Dim, Signature, TensorSpec};

/// Which axes follow which length, and what fills them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Padding {
    /// The symbols of the lengths.
    symbols: Vec<String>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

/// An input or an output.
#[derive(Clone, Debug, PartialEq)]
struct Port {
    /// Per axis the index of its length.
    axes: Vec<Option<usize>>,
    /// One element; empty for outputs.
    fill: Vec<u8>,
}

/// The next of 1, 2, 3, 4, 6, 8, 12, 16 …: at most a third is wasted, and up to 64 there are only
/// twelve sizes.
pub(crate) fn bucket(size: usize) -> usize {
    let above = size.next_power_of_two();
    let between = above / 4 * 3;
    if size <= between { between } else { above }
}

impl Padding {
    /// How inputs grow by what a manifest says; `None` where it names none.
    ///
    /// # Errors
    /// Why the outputs could not be cut back, in words.
    pub(crate) fn of(
        signature: &Signature,
        pad: &BTreeMap<String, i64>,
    ) -> Result<Option<Self>, String> {
        if pad.is_empty() {
            return Ok(None);
        }
        let inputs = || signature.inputs.iter();
        if let Some(name) = pad.keys().find(|name| inputs().all(|spec| spec.name != **name)) {
            let names: Vec<&str> = inputs().map(|spec| spec.name.as_str()).collect();
            return Err(format!("there is no input {name:?}; the inputs are {}", names.join(", ")));
        }
        let padded = inputs().filter(|spec| pad.contains_key(&spec.name));
        let dims = padded.flat_map(|spec| spec.dims.iter().flatten().skip(1));
        let mut symbols: Vec<String> = Vec::new();
        for dim in dims {
            match dim {
                Dim::Symbol(symbol) if !symbols.contains(symbol) => symbols.push(symbol.clone()),
                _ => {}
            }
        }
        let stays: Vec<&Dim> =
            inputs().flat_map(|spec| spec.dims.iter().flatten().skip(1)).collect();
        let input = |spec: &TensorSpec| match pad.get(&spec.name) {
            Some(&value) => port(spec, &symbols, &[], element(spec.dtype, value)?),
            None => unpadded(spec, &symbols),
        };
        let output = |spec: &TensorSpec| port(spec, &symbols, &stays, Vec::new());
        Ok(Some(Self {
            inputs: inputs().map(input).collect::<Result<_, _>>()?,
            outputs: signature.outputs.iter().map(output).collect::<Result<_, _>>()?,
            symbols,
        }))
    }

    /// The lengths of a checked request, whose inputs are in the signature's order.
    pub(crate) fn lengths(&self, inputs: &[Value]) -> Vec<usize> {
        let mut lengths = vec![0; self.symbols.len()];
        for (port, value) in self.inputs.iter().zip(inputs) {
            for (axis, size) in port.axes.iter().zip(value.shape().iter()) {
                if let Some(length) = axis {
                    lengths[*length] = *size;
                }
            }
        }
        lengths
    }

    /// The dimensions of a row, lengths rounded up to their bucket.
    pub(crate) fn key(&self, inputs: &[Value]) -> Vec<Vec<usize>> {
        let sizes = |(port, value): (&Port, &Value)| {
            let axes = port.axes.iter().zip(value.shape().iter()).skip(1);
            axes.map(|(axis, &size)| axis.map_or(size, |_| bucket(size))).collect()
        };
        self.inputs.iter().zip(inputs).map(sizes).collect()
    }

    /// The inputs with these lengths, which are at least their own.
    pub(crate) fn grow(&self, inputs: &[Value], lengths: &[usize]) -> Vec<Value> {
        resized(&self.inputs, inputs, lengths)
    }

    /// The outputs of a run of such lengths, with these, which are at most those. `None` where they
    /// do not have the lengths of the run, whatever the model says: what of them is fill cannot be
    /// told then.
    pub(crate) fn cut(
        &self,
        outputs: &[Value],
        run: &[usize],
        own: &[usize],
    ) -> Option<Vec<Value>> {
        let is_long = |(port, value): (&Port, &Value)| {
            let mut axes = port.axes.iter().zip(value.shape().iter());
            value.shape().len() == port.axes.len()
                && axes.all(|(axis, &size)| axis.is_none_or(|at| size == run[at]))
        };
        let are_long = self.outputs.iter().zip(outputs).all(is_long);
        are_long.then(|| resized(&self.outputs, outputs, own))
    }
}

/// What is on a device is left as it is: it is neither joined nor kept where lengths differ.
fn resized(ports: &[Port], values: &[Value], lengths: &[usize]) -> Vec<Value> {
    let resize = |(port, value): (&Port, &Value)| {
        let Some(tensor) = value.host().filter(|tensor| tensor.shape().len() == port.axes.len())
        else {
            return value.clone();
        };
        let axes = port.axes.iter().zip(tensor.shape().iter());
        let dims: Vec<usize> =
            axes.map(|(axis, &size)| axis.map_or(size, |at| lengths[at])).collect();
        if dims == tensor.shape().dims() {
            value.clone()
        } else {
            resize(tensor, dims, &port.fill).into()
        }
    };
    ports.iter().zip(values).map(resize).collect()
}

/// What grows or is cut. Other open dimensions than lengths must be among those that stay.
fn port(
    spec: &TensorSpec,
    symbols: &[String],
    stays: &[&Dim],
    fill: Vec<u8>,
) -> Result<Port, String> {
    let name = &spec.name;
    let dims = spec.dims.as_ref().ok_or_else(|| format!("{name:?} declares no dimensions"))?;
    let axis = |(axis, dim): (usize, &Dim)| match dim {
        _ if axis == 0 => Ok(None),
        Dim::Fixed(_) => Ok(None),
        Dim::Symbol(symbol) => match symbols.iter().position(|known| known == symbol) {
            Some(at) => Ok(Some(at)),
            None if stays.contains(&dim) => Ok(None),
            None => Err(format!("nothing says how long {symbol} of {name:?} gets")),
        },
        Dim::Unknown => Err(format!("dimension {axis} of {name:?} has no name")),
    };
    let axes = dims.iter().enumerate().map(axis).collect::<Result<_, _>>()?;
    Ok(Port { axes, fill })
}

/// An input that is not to grow, so it must not have a length that does.
fn unpadded(spec: &TensorSpec, symbols: &[String]) -> Result<Port, String> {
    let dims = spec.dims.as_deref().unwrap_or_default();
    let grows = dims.iter().find_map(|dim| match dim {
        Dim::Symbol(symbol) => symbols.iter().find(|known| *known == symbol),
        _ => None,
    });
    match grows {
        Some(symbol) => {
            Err(format!("{:?} has the length {symbol} too, and is not padded", spec.name))
        }
        None => Ok(Port { axes: vec![None; dims.len()], fill: Vec::new() }),
    }
}

/// A number as an element of a tensor.
fn element(dtype: DType, value: i64) -> Result<Vec<u8>, String> {
    let whole = || format!("{value} is no {dtype}");
    #[expect(clippy::cast_precision_loss, reason = "a fill is a small number")]
    let (single, double) = (value as f32, value as f64);
    Ok(match dtype {
        DType::F32 => single.to_le_bytes().to_vec(),
        DType::F64 => double.to_le_bytes().to_vec(),
        DType::F16 => f16::from_f32(single).to_le_bytes().to_vec(),
        DType::Bf16 => bf16::from_f32(single).to_le_bytes().to_vec(),
        DType::I64 => value.to_le_bytes().to_vec(),
        DType::I32 => i32::try_from(value).map_err(|_| whole())?.to_le_bytes().to_vec(),
        DType::I8 => i8::try_from(value).map_err(|_| whole())?.to_le_bytes().to_vec(),
        DType::U8 => vec![u8::try_from(value).map_err(|_| whole())?],
        DType::Bool if matches!(value, 0 | 1) => vec![u8::from(value == 1)],
        _ => return Err(format!("an input of {dtype} cannot be padded with {value}")),
    })
}

/// A tensor of other dimensions and the same rank: what both have is copied, the rest is filled.
fn resize(tensor: &Tensor, dims: Vec<usize>, fill: &[u8]) -> Tensor {
    let (from, size) = (tensor.shape().dims(), tensor.dtype().size());
    let count: usize = dims.iter().product();
    let mut data = match fill.iter().all(|&byte| byte == 0) {
        true => vec![0; count * size],
        false => fill.repeat(count),
    };
    let both: Vec<usize> = from.iter().zip(&dims).map(|(a, b)| *a.min(b)).collect();
    let (run, outer) = both.split_last().map_or((1, &[][..]), |(run, outer)| (*run, outer));
    let place = |shape: &[usize], index: &[usize]| {
        index.iter().zip(shape).fold(0, |at, (index, size)| at * size + index)
            * shape.last().copied().unwrap_or(1)
            * size
    };
    let mut index = vec![0; outer.len()];
    if both.iter().all(|&size| size > 0) {
        loop {
            let (source, target) = (place(from, &index), place(&dims, &index));
            data[target..target + run * size]
                .copy_from_slice(&tensor.bytes()[source..source + run * size]);
            // The next place, as an odometer counts.
            let Some(axis) = (0..outer.len()).rev().find(|&axis| index[axis] + 1 < outer[axis])
            else {
                break;
            };
            index[axis] += 1;
            index[axis + 1..].fill(0);
        }
    }
    Tensor::new(tensor.dtype(), dims, data).expect("so many elements were made")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(name: &str, dims: &str) -> TensorSpec {
        let dim = |text: &str| match text.parse() {
            Ok(size) => Dim::Fixed(size),
            Err(_) if text == "?" => Dim::Unknown,
            Err(_) => Dim::Symbol(text.to_owned()),
        };
        let dims = Some(dims.split_whitespace().map(dim).collect());
        TensorSpec { name: name.to_owned(), dtype: DType::F32, dims, entries: None }
    }

    fn padding(
        inputs: &[(&str, &str)],
        outputs: &[&str],
        pad: &[(&str, i64)],
    ) -> Result<Padding, String> {
        let signature = Signature {
            inputs: inputs.iter().map(|(name, dims)| spec(name, dims)).collect(),
            outputs: outputs.iter().map(|dims| spec("y", dims)).collect(),
        };
        let pad = pad.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Padding::of(&signature, &pad).map(|padding| padding.expect("something is padded"))
    }

    fn value(dims: [usize; 2], values: &[f32]) -> Value {
        Tensor::from_slice(dims, values).unwrap().into()
    }

    fn floats(value: &Value) -> (Vec<usize>, Vec<f32>) {
        let tensor = value.host().unwrap();
        (tensor.shape().dims().to_vec(), tensor.to_vec().unwrap())
    }

    #[test]
    fn inputs_grow_by_their_fill_and_outputs_are_cut_back() {
        let inputs = [("ids", "n t"), ("mask", "n t"), ("scale", "n 1")];
        let padding = padding(&inputs, &["n t", "n 3"], &[("ids", 7), ("mask", 0)]).unwrap();
        let given =
            [value([2, 2], &[1., 2., 3., 4.]), value([2, 2], &[1.; 4]), value([2, 1], &[5.; 2])];
        assert_eq!(padding.lengths(&given), [2]);
        let grown = padding.grow(&given, &[3]);
        assert_eq!(floats(&grown[0]), (vec![2, 3], vec![1., 2., 7., 3., 4., 7.]));
        assert_eq!(floats(&grown[1]), (vec![2, 3], vec![1., 1., 0., 1., 1., 0.]));
        assert_eq!(floats(&grown[2]), floats(&given[2]));
        let cut = padding.cut(&[grown[0].clone(), value([2, 3], &[9.; 6])], &[3], &[2]).unwrap();
        assert_eq!(floats(&cut[0]), (vec![2, 2], vec![1., 2., 3., 4.]));
        assert_eq!(floats(&cut[1]), (vec![2, 3], vec![9.; 6]));
        // Half as long as it says.
        let halved = [value([2, 2], &[9.; 4]), value([2, 3], &[9.; 6])];
        assert!(padding.cut(&halved, &[3], &[2]).is_none());
    }

    #[test]
    fn what_cannot_be_undone_is_refused_by_name() {
        struct Case<'t>(&'t [(&'t str, &'t str)], &'t str, &'t str, &'t str);
        let ids = [("ids", "n t")];
        let cases = [
            Case(&ids, "n", "idz", "no input \"idz\"; the inputs are ids"),
            Case(&[("ids", "n t"), ("mask", "n t")], "n", "ids", "\"mask\" has the length t too"),
            Case(&ids, "n ?", "ids", "dimension 1 of \"y\" has no name"),
            Case(&ids, "n t2", "ids", "nothing says how long t2 of \"y\" gets"),
            Case(&[("ids", "n ?")], "n", "ids", "dimension 1 of \"ids\" has no name"),
        ];
        for Case(inputs, output, name, said) in cases {
            let error = padding(inputs, &[output], &[(name, 0)]).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let large = element(DType::U8, 256).unwrap_err();
        assert_eq!(large, "256 is no u8");
    }

    proptest! {
        #[test]
        fn cutting_undoes_growing(
            dims in prop::collection::vec(0usize..5, 1..5),
            more in prop::collection::vec(0usize..4, 4),
        ) {
            let count: usize = dims.iter().product();
            let values: Vec<i16> = (0..i16::try_from(count).unwrap()).collect();
            let tensor = Tensor::from_slice(dims.clone(), &values).unwrap();
            let larger = dims.iter().zip(&more).map(|(size, more)| size + more).collect();
            let grown = resize(&tensor, larger, &[0xff, 0xff]);
            let values = grown.to_vec::<i16>().unwrap();
            let filled = values.iter().filter(|&&value| value == -1).count();
            prop_assert_eq!(filled, grown.shape().elements() - count);
            prop_assert_eq!(resize(&grown, dims, &[]), tensor);
        }
    }

    #[test]
    fn buckets_are_few_and_waste_little() {
        let sizes: Vec<usize> = (1..=33).map(bucket).collect();
        let mut few = sizes.clone();
        few.dedup();
        assert_eq!(few, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48]);
        assert!(sizes.iter().zip(1..).all(|(&size, n)| size >= n && size * 2 <= n * 3));
    }
}
