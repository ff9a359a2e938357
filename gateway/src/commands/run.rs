//! `gw run`: one WebAssembly program, from its start to its end.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use gw_artifact::manifest::NnDialect;
use gw_artifact::{ByteSize, Digest, FetchConfig};
use gw_host::{Ended, Folder, Host, HostConfig, LoadGrant, Program, ProgramSpec};
use gw_inference::{DeviceChoice, InferenceConfig, Model, ModelPolicy, ModelSpec, Models};
use prometheus_client::registry::Registry;

use crate::models;
use crate::node;
use crate::report::{self, Advice, Exit};

/// What shells say of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// Open files and wasi-nn handles of the user's own program; a leak ends somewhere.
const RESOURCES_MAX: usize = 1 << 16;

/// Run a WebAssembly program with models, files and folders of your own
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gw run --model minilm=minilm.onnx embed.wasm 'a sentence'
  gw run --dir .::/data --env LEVEL=2 tool.wasm --verbose /data/in.txt
  gw run --wasi-nn wamr --model sum=sum.onnx guest.wasm

MODULE is a core module with a _start (WASI preview 1, wasi-nn through wasi_ephemeral_nn), or a
component that exports wasi:cli/run (wasi:nn). It has this terminal's input and output, and ends gw
with its own exit code. GW_LOG=gw_host=debug says why a call of wasi-nn failed.")]
pub(crate) struct Args {
    /// A model that the program may load by name: a file, or a source such as hf:org/repo#file
    #[arg(long, env = "GW_MODEL", value_name = "NAME=MODEL", value_parser = named)]
    model: Vec<(String, String)>,
    /// A folder that it may read and write, and its path there when that differs
    #[arg(long, env = "GW_DIR", value_name = "HOST[::GUEST]", value_parser = folder)]
    dir: Vec<Folder>,
    /// A variable of its environment, which is empty otherwise
    #[arg(long, env = "GW_ENV", value_name = "NAME=VALUE", value_parser = named)]
    env: Vec<(String, String)>,
    /// Where models run: auto, gpu, cpu, or a part of an adapter's name
    #[arg(long, env = "GW_DEVICE", value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// What a core module means by wasi-nn: standard, wasmedge or wamr
    #[arg(long, env = "GW_WASI_NN", value_name = "DIALECT", default_value = "standard")]
    wasi_nn: NnDialect,
    /// The largest model that it may load from bytes of its own; 0 allows none
    #[arg(long, env = "GW_LOAD_MAX", value_name = "SIZE", default_value = "1GiB")]
    load_max: ByteSize,
    /// How much memory it may have, and its tensors too
    #[arg(long, env = "GW_MEMORY", value_name = "SIZE", default_value = "4GiB")]
    memory: ByteSize,
    /// The program, and everything behind it as the program's own arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    #[arg(value_name = "MODULE.wasm ARGS")]
    program: Vec<String>,
}

/// Splits at the first `=`.
fn named(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Splits at the last `::`; a folder without it has one path on both sides.
fn folder(text: &str) -> Result<Folder, String> {
    let (host, guest) = text.rsplit_once("::").unwrap_or((text, text));
    if host.is_empty() || guest.is_empty() {
        return Err("expected HOST::GUEST, such as data::/data".to_owned());
    }
    Ok(Folder { host: host.into(), guest: guest.to_owned() })
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let line = line(&args.program)?;
    let name = line[0].clone();
    let wasm = read(&name)?;
    let fetch = FetchConfig::from_env()?;
    let mut registry = Registry::default();
    let host = Host::new(host_config(args, &fetch.cache_dir), &mut registry)
        .context("starting the plugin host")?;
    let inference = InferenceConfig {
        plan_cache_dir: Some(models::plan_cache_dir()?),
        // Most programs are over before a measurement could serve them.
        gpu_tune: Duration::ZERO,
        ..InferenceConfig::default()
    };
    let models = Arc::new(Models::new(inference, &mut registry));
    let load = LoadGrant {
        models: Arc::clone(&models),
        bytes_max: args.load_max.0,
        device: args.device.clone(),
    };
    let spec = ProgramSpec {
        name,
        wasm: wasm.into(),
        args: line,
        env: args.env.clone(),
        folders: args.dir.clone(),
        memory_bytes: args.memory.0,
        models: preload(args, &models)?,
        load: (args.load_max.0 > 0).then_some(load),
        wasi_nn: args.wasi_nn,
    };
    let program = host.program(spec)?;
    node::block_on(to_its_end(program, &models))
}

/// The program and its arguments; one `--` between them is the user's way to mark where they begin.
fn line(program: &[String]) -> Result<Vec<String>, Advice> {
    let (module, args) = program.split_first().expect("clap requires the program");
    if module.starts_with('-') {
        let message = format!("gw run has no flag {module}");
        return Err(Advice::new(message).hint("see `gw run --help`").usage());
    }
    let args = args.strip_prefix(&["--".to_owned()]).unwrap_or(args);
    Ok(std::iter::once(module).chain(args).cloned().collect())
}

fn read(module: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(module).with_context(|| {
        Advice::new(format!("cannot read the program {module}"))
            .hint("name a .wasm file; what follows it are the program's own arguments")
            .usage()
    })
}

/// Limits as wide as the user made them: it is the user's own program.
fn host_config(args: &Args, cache: &Path) -> HostConfig {
    let memory = usize::try_from(args.memory.0).unwrap_or(usize::MAX);
    HostConfig {
        instances_max: 1,
        memory_bytes_max: args.memory.0,
        tensor_bytes_max: memory,
        hostcall_bytes_max: memory,
        resources_max: RESOURCES_MAX,
        loaded_model_bytes_max: usize::try_from(args.load_max.0).unwrap_or(usize::MAX),
        compiled_dir: Some(cache.join("compiled")),
        seal_key: Some(cache.join("seal.key")),
        ..HostConfig::default()
    }
}

/// Loads what `--model` names, so that a program never waits for it.
fn preload(args: &Args, models: &Models) -> anyhow::Result<HashMap<String, Arc<Model>>> {
    let mut named = HashMap::new();
    for (name, model) in &args.model {
        let twice = || Advice::new(format!("--model {name} is given twice")).usage();
        let path = models::locate(model)?;
        let (digest, _) = std::fs::File::open(&path)
            .and_then(Digest::of_reader)
            .with_context(|| format!("reading the model {}", path.display()))?;
        let device = args.device.clone();
        let spec =
            ModelSpec { name: name.clone(), path, digest, device, policy: ModelPolicy::default() };
        if named.insert(name.clone(), models.load(&spec)?).is_some() {
            return Err(twice().into());
        }
    }
    Ok(named)
}

/// Runs the program until it ends or Ctrl-C ends it, and its models with it.
async fn to_its_end(program: Program, models: &Models) -> anyhow::Result<()> {
    // On its own, because a program that prints holds its thread until somebody reads.
    let mut running = tokio::spawn(program.run());
    let ended = tokio::select! {
        ended = &mut running => Some(ended.context("running the program")?),
        _ = tokio::signal::ctrl_c() => None,
    };
    running.abort();
    // A device that still computes while the process ends takes its driver down with it; who
    // does not want to wait for it says so once more.
    tokio::select! {
        () = models.drain() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let Some(ended) = ended else { return Err(Exit(INTERRUPTED).into()) };
    let Ended { status, nn_fault } = ended?;
    if status == 0 {
        return Ok(());
    }
    if let Some(fault) = nn_fault {
        report::note(format_args!("note: the last call of wasi-nn that failed: {fault}"));
    }
    Err(Exit(u8::try_from(status).unwrap_or(1)).into())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn what_follows_the_program_is_its_own() {
        let line = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            line(&texts).map_err(|error| error.to_string())
        };
        let same = |texts: &[&str]| Ok(texts.iter().map(ToString::to_string).collect());
        assert_eq!(line(&["a.wasm", "--device", "x"]), same(&["a.wasm", "--device", "x"]));
        assert_eq!(line(&["a.wasm", "--", "-x"]), same(&["a.wasm", "-x"]));
        assert_eq!(line(&["a.wasm", "--", "--"]), same(&["a.wasm", "--"]));
        assert_eq!(line(&["--modle", "a"]), Err("gw run has no flag --modle".to_owned()));
    }

    #[test]
    fn a_folder_has_one_path_or_two() {
        let folder = |text| folder(text).map(|Folder { host, guest }| (host, guest));
        let both = |host: &str, guest: &str| Ok((PathBuf::from(host), guest.to_owned()));
        assert_eq!(folder("data"), both("data", "data"));
        assert_eq!(folder("a/b::/c"), both("a/b", "/c"));
        assert_eq!(folder("a::b::/c"), both("a::b", "/c"));
        assert!(folder("::/c").is_err() && folder("a::").is_err());
    }

    #[test]
    fn a_value_may_hold_the_sign_that_names_it() {
        assert_eq!(named("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(named("A="), Ok(("A".to_owned(), String::new())));
        assert!(named("A").is_err() && named("=b").is_err());
    }
}
