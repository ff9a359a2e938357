//! `--value NAME=1,2,3`: the elements of a small input, where its values decide what is computed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use gw_inference::{Dim, Signature, TensorSpec};
use gw_tensor::{DType, Shape, Tensor};
use half::{bf16, f16};

use super::{ShapeArg, Shapes, unknown_input};
use crate::report::Advice;

/// The value of `--value`: an input and its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueArg {
    name: String,
    elements: Vec<String>,
}

/// Reads `NAME=1,2,3`; the name may contain `=`.
impl FromStr for ValueArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, elements) = text.rsplit_once('=').ok_or("expected NAME=1,2,3")?;
        if elements.is_empty() {
            return Err("expected numbers with commas between them behind the last =".to_owned());
        }
        let elements = elements.split(',').map(|element| element.trim().to_owned()).collect();
        Ok(Self { name: name.to_owned(), elements })
    }
}

/// As it is read.
impl fmt::Display for ValueArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.elements.join(","))
    }
}

impl ValueArg {
    /// The shapes that values give to inputs of one open axis, where no `--shape` does.
    ///
    /// # Errors
    /// Where the model has no such input.
    pub(crate) fn shapes(
        values: &[Self],
        signature: &Signature,
        given: &[ShapeArg],
    ) -> Result<Vec<ShapeArg>, Advice> {
        let mut shapes = given.to_vec();
        for Self { name, elements } in values {
            let spec = signature.inputs.iter().find(|spec| spec.name == *name);
            let spec = spec.ok_or_else(|| unknown_input(signature, name))?;
            let is_open =
                matches!(spec.dims.as_deref(), None | Some([Dim::Symbol(_) | Dim::Unknown]));
            if is_open && given.iter().all(|arg| arg.name != *name) {
                shapes.push(ShapeArg { name: name.clone(), shape: Shape::new([elements.len()]) });
            }
        }
        Ok(shapes)
    }

    /// One tensor per input that has a value; a single element fills all of it.
    ///
    /// # Errors
    /// Where an element is none of the input's type, or there are too many or too few.
    pub(crate) fn tensors(
        values: &[Self],
        signature: &Signature,
        resolved: &Shapes,
    ) -> anyhow::Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for value in values {
            let Some(spec) = signature.inputs.iter().find(|spec| spec.name == value.name) else {
                return Err(unknown_input(signature, &value.name).into());
            };
            let tensor = value.tensor(spec, &resolved.shapes[&spec.name])?;
            tensors.insert(spec.name.clone(), tensor);
        }
        Ok(tensors)
    }

    fn tensor(&self, spec: &TensorSpec, shape: &Shape) -> anyhow::Result<Tensor> {
        let (name, given) = (&self.name, self.elements.len());
        let count = shape.len_checked()?;
        if given != count && given != 1 {
            let message = format!("--value {name}: {given} elements for the shape {shape}");
            return Err(Advice::new(message)
                .hint("give every element, or one for all of them")
                .usage()
                .into());
        }
        let bytes = self.elements.iter().map(|element| bytes(spec.dtype, element)).collect();
        let bytes: Result<Vec<Vec<u8>>, &str> = bytes;
        let bytes = bytes.map_err(|reason| {
            Advice::new(format!("--value {name}: {reason} for {}", spec.dtype)).usage()
        })?;
        let bytes = if given == 1 { bytes[0].repeat(count) } else { bytes.concat() };
        Ok(Tensor::new(spec.dtype, shape.clone(), bytes)?)
    }
}

/// One element as a tensor holds it.
fn bytes(dtype: DType, text: &str) -> Result<Vec<u8>, &'static str> {
    macro_rules! number {
        ($type:ty) => {
            text.parse::<$type>().map(|value| value.to_le_bytes().to_vec()).map_err(drop)
        };
    }
    let parsed = match dtype {
        DType::F32 => number!(f32),
        DType::F64 => number!(f64),
        DType::F16 => text.parse().map(|v| f16::from_f32(v).to_le_bytes().to_vec()).map_err(drop),
        DType::Bf16 => text.parse().map(|v| bf16::from_f32(v).to_le_bytes().to_vec()).map_err(drop),
        DType::I8 => number!(i8),
        DType::I16 => number!(i16),
        DType::I32 => number!(i32),
        DType::I64 => number!(i64),
        DType::U8 => number!(u8),
        DType::U16 => number!(u16),
        DType::U32 => number!(u32),
        DType::U64 => number!(u64),
        DType::Bool => match text {
            "0" | "false" => Ok(vec![0]),
            "1" | "true" => Ok(vec![1]),
            _ => Err(()),
        },
        _ => return Err("values cannot be given"),
    };
    parsed.map_err(|()| "an element is no number of its range")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let spec = |name: &str, dtype, dims| TensorSpec {
            name: name.to_owned(),
            dtype,
            dims: Some(dims),
            entries: None,
        };
        Signature {
            inputs: vec![
                spec("sr", DType::I64, vec![]),
                spec("shape", DType::I64, vec![Dim::Unknown]),
                spec("flags", DType::Bool, vec![Dim::Fixed(2)]),
                spec("scale", DType::F32, vec![Dim::Fixed(3)]),
            ],
            outputs: vec![],
        }
    }

    fn tensors(texts: &[&str]) -> anyhow::Result<BTreeMap<String, Tensor>> {
        let values: Vec<ValueArg> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let shapes = ValueArg::shapes(&values, &signature(), &[])?;
        let resolved = Shapes::resolve(&signature(), &shapes)?;
        ValueArg::tensors(&values, &signature(), &resolved)
    }

    #[test]
    fn values_have_the_type_and_shape_of_their_input() {
        let given = tensors(&["sr=16000", "shape=2,-1,3", "flags=true,0", "scale=0.5"]).unwrap();
        assert_eq!(given["sr"], Tensor::from_slice(Shape::default(), &[16_000i64]).unwrap());
        assert_eq!(given["shape"], Tensor::from_slice([3], &[2i64, -1, 3]).unwrap());
        assert_eq!(given["flags"].bytes()[..], [1, 0]);
        assert_eq!(given["scale"], Tensor::from_slice([3], &[0.5f32; 3]).unwrap());
    }

    #[test]
    fn values_that_do_not_fit_are_refused_by_name() {
        let cases: [(&[&str], &str); 4] = [
            (&["st=1"], "no input \"st\""),
            (&["sr=1.5"], "--value sr: an element is no number of its range for i64"),
            (&["scale=1,2"], "--value scale: 2 elements for the shape [3]"),
            (&["flags=yes"], "--value flags: an element is no number of its range for bool"),
        ];
        for (given, expected) in cases {
            let error = tensors(given).unwrap_err().to_string();
            assert!(error.contains(expected), "{given:?}: {error}");
        }
        assert_eq!("a=b=1, 2".parse::<ValueArg>().unwrap().to_string(), "a=b=1,2");
        assert!("sr".parse::<ValueArg>().is_err() && "sr=".parse::<ValueArg>().is_err());
    }
}
