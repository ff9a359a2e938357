//! `gw infer`: one run of a model on tensors from files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use gw_inference::{DeviceChoice, Dim, InferenceConfig, InferenceError, Signature, TensorSpec};
use gw_tensor::Tensor;
use serde::Serialize;
use serde_json::{Value, json};

use crate::models;
use crate::npy;
use crate::report::{Advice, Output};

/// Run a model once on tensors from .npy files, or print what it takes and gives
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gw infer model.onnx                                   # print the signature
  gw infer model.onnx --input x=x.npy --out results     # write results/NAME.npy per output

Names of inputs may contain `:`, `/` and `=`: the value is split at the last `=` that leaves the
name of an existing file. In the names of written files `/` and `:` become `_`.")]
pub(crate) struct Args {
    /// An ONNX file, or a source such as hf:org/repo#model.onnx
    model: String,
    /// A tensor for one input; repeat for each input
    #[arg(long, env = "GW_INPUT", value_name = "NAME=FILE.npy", requires = "out")]
    input: Vec<String>,
    /// The folder to write the outputs to
    #[arg(long, env = "GW_OUT", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where to run: auto, gpu, cpu, or a part of an adapter's name
    #[arg(long, env = "GW_DEVICE", value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Run every node by itself on a GPU: slow and simple, to compare with
    #[arg(long, env = "GW_NO_FUSE", value_parser = clap::builder::FalseyValueParser::new())]
    no_fuse: bool,
    #[command(flatten)]
    output: Output,
}

/// What is printed after a run.
#[derive(Serialize)]
struct Ran {
    device: String,
    run_ms: f64,
    outputs: Vec<Written>,
}

#[derive(Serialize)]
struct Written {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    file: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let inputs =
        args.input.iter().map(|text| read_input(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let path = models::locate(&args.model)?;
    let Some(out) = args.out.as_deref() else {
        return print_signature(&path, args.output);
    };
    if inputs.is_empty() {
        check_takes_nothing(&models::signature(&path)?)?;
    }
    let plan_cache_dir = Some(models::plan_cache_dir()?);
    // One run is over before a measurement could serve it.
    let (gpu_fuse, gpu_tune) = (!args.no_fuse, Duration::ZERO);
    let defaults = InferenceConfig::default();
    let config = InferenceConfig { gpu_fuse, gpu_tune, plan_cache_dir, ..defaults };
    let model = models::open(&args.model, &path, &args.device, &config)?;
    let start = Instant::now();
    let outputs = model.run(&inputs).map_err(|error| refused(&args.model, error))?;
    let run_ms = start.elapsed().as_secs_f64() * 1e3;
    let ran =
        Ran { device: model.device().to_owned(), run_ms, outputs: write_outputs(out, &outputs)? };
    args.output.print(&ran, |ran| {
        let mut text = String::new();
        for Written { name, dtype, shape, file } in &ran.outputs {
            let _ = writeln!(text, "{name}: {dtype} {shape:?} -> {}", file.display());
        }
        text
    })
}

/// Inputs that do not fit get a word about those that would.
fn refused(model: &str, error: InferenceError) -> anyhow::Error {
    if !matches!(error, InferenceError::BadInput { .. }) {
        return error.into();
    }
    let hint = format!("`gw infer {model}`, with nothing else, prints what it takes");
    Advice::new(error.to_string()).hint(hint).into()
}

/// A model without inputs runs without `--input`; any other needs it.
fn check_takes_nothing(signature: &Signature) -> Result<(), Advice> {
    if signature.inputs.is_empty() {
        return Ok(());
    }
    let inputs: Vec<String> = signature.inputs.iter().map(ToString::to_string).collect();
    Err(Advice::new(format!("--input is missing: the model takes {}", inputs.join(", ")))
        .hint("give --input NAME=FILE.npy for each, or leave --out away to print the signature")
        .usage())
}

/// Reads the tensor of `NAME=FILE`.
fn read_input(text: &str) -> anyhow::Result<(String, Tensor)> {
    let (name, file) = split_input(text, Path::is_file)?;
    Ok((name.to_owned(), npy::read(Path::new(file))?))
}

/// Splits at the last `=` that leaves the name of an existing file.
fn split_input(text: &str, exists: impl Fn(&Path) -> bool) -> Result<(&str, &str), Advice> {
    let splits = || text.rmatch_indices('=').map(|(at, _)| (&text[..at], &text[at + 1..]));
    if let Some(found) = splits().find(|(_, file)| exists(Path::new(file))) {
        return Ok(found);
    }
    Err(match splits().next() {
        Some((name, file)) => Advice::new(format!("--input {name}: there is no file {file}")),
        None => Advice::new(format!("--input {text}: expected NAME=FILE.npy")),
    }
    .usage())
}

fn write_outputs(out: &Path, outputs: &[(String, Tensor)]) -> anyhow::Result<Vec<Written>> {
    std::fs::create_dir_all(out).with_context(|| format!("making the folder {}", out.display()))?;
    let mut written: Vec<Written> = Vec::new();
    for (name, tensor) in outputs {
        let file = out.join(format!("{}.npy", name.replace(['/', ':'], "_")));
        let clash = written.iter().find(|earlier| earlier.file == file);
        ensure!(
            clash.is_none(),
            "two outputs would be written to {}: {:?} and {name:?}",
            file.display(),
            clash.map(|earlier| earlier.name.as_str()).unwrap_or_default()
        );
        npy::write(&file, tensor)?;
        let shape = tensor.shape().to_vec();
        written.push(Written { name: name.clone(), dtype: tensor.dtype().name(), shape, file });
    }
    Ok(written)
}

fn print_signature(path: &Path, output: Output) -> anyhow::Result<()> {
    let signature = models::signature(path)?;
    let tensors = |specs: &[TensorSpec]| specs.iter().map(tensor_json).collect();
    let declared =
        Declared { inputs: tensors(&signature.inputs), outputs: tensors(&signature.outputs) };
    output.print(&declared, |_| signature_text(&signature))
}

/// What is printed of a model that is not run.
#[derive(Serialize)]
struct Declared {
    inputs: Vec<Value>,
    outputs: Vec<Value>,
}

/// Fixed dimensions are numbers, named ones strings, and free ones null.
fn tensor_json(spec: &TensorSpec) -> Value {
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(size) => json!(size),
        Dim::Symbol(name) => json!(name),
        Dim::Unknown => Value::Null,
    };
    let dims: Option<Vec<Value>> = spec.dims.as_ref().map(|dims| dims.iter().map(dim).collect());
    json!({ "name": spec.name, "dtype": spec.dtype.name(), "dims": dims })
}

fn signature_text(signature: &Signature) -> String {
    let mut text = String::new();
    for (title, specs) in [("inputs", &signature.inputs), ("outputs", &signature.outputs)] {
        let _ = writeln!(text, "{title}:");
        for spec in specs {
            let _ = writeln!(text, "  {spec}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_split_at_the_last_sign_that_leaves_a_file() {
        let split = |text, file: &str| {
            let file = file.to_owned();
            split_input(text, move |path| path == Path::new(&file)).map_err(|e| e.to_string())
        };
        assert_eq!(split("ids=x.npy", "x.npy"), Ok(("ids", "x.npy")));
        assert_eq!(split("a:0/b=c=x.npy", "x.npy"), Ok(("a:0/b=c", "x.npy")));
        assert_eq!(split("ids=run=3/x.npy", "run=3/x.npy"), Ok(("ids", "run=3/x.npy")));
        assert_eq!(split("ids=y.npy", "x.npy"), Err("--input ids: there is no file y.npy".into()));
        assert_eq!(split("ids", "x.npy"), Err("--input ids: expected NAME=FILE.npy".into()));
    }

    #[test]
    fn outputs_that_share_a_file_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let one = Tensor::from_slice([1], &[1f32]).unwrap();
        let outputs = [("a/b".to_owned(), one.clone()), ("a:b".to_owned(), one)];
        let error = write_outputs(folder.path(), &outputs).err().unwrap().to_string();
        assert!(error.contains("\"a/b\" and \"a:b\""), "{error}");
    }
}
