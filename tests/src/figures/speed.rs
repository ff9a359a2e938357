//! How fast models and products run on software adapters, against other runtimes in the same run.

use anyhow::{Context, Result, ensure};
use gw_engine::{AdapterSelect, Device};
use gw_shaders::gemm::{self, Epilogue, Weights};
use gw_shaders::kernel::{Access, Dispatch, Kernel, Needs};
use gw_shaders::layout::Matrix;
use serde_json::Value;

use super::dispatches::model;
use super::{Row, median, say};
use crate::adapters;
use crate::gateway::run_with;
use crate::peers::Peer;

/// Both sides are measured in turn, this often; a row is of the medians.
const ROUNDS: usize = 5;

/// Processes that tune a model before it is measured: each has two seconds for it.
const TUNED: usize = 3;

/// A model and the shapes of its inputs.
struct Workload {
    model: &'static str,
    shapes: Vec<String>,
}

impl Workload {
    fn minilm(length: usize) -> Self {
        let names = ["input_ids", "attention_mask", "token_type_ids"];
        let shapes = names.map(|name| format!("{name}=1x{length}")).into();
        Self { model: "minilm-f32", shapes }
    }

    fn of(model: &'static str, shapes: &[&str]) -> Self {
        Self { model, shapes: shapes.iter().map(|&shape| shape.to_owned()).collect() }
    }
}

/// The median of our runs on an adapter, and of the peer's, in milliseconds.
fn side_by_side(work: &Workload, adapter: &str, peer: &str) -> Result<[f64; 2]> {
    let path = model(work.model)?;
    let envs = if adapter == "swiftshader" { adapters::swiftshader()?.to_vec() } else { vec![] };
    let mut args = vec![path.clone()];
    args.extend(work.shapes.iter().cloned());
    let mut theirs = Peer::start(peer, &args, &envs)?;
    // As a node serves it: with the variants that it measured behind its first answers.
    let cache = tempfile::tempdir()?;
    let envs = [envs, vec![("GW_CACHE_DIR", cache.path().to_owned())]].concat();
    let mut line = vec!["bench", &path, "--device", adapter, "-o", "json", "--runs", "12"];
    line.push("--tune");
    line.extend(work.shapes.iter().flat_map(|shape| ["--shape", shape]));
    for _ in 0..TUNED {
        run_with(&line, &envs);
    }
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        peers.push(theirs.round()?);
        let (code, out, err) = run_with(&line, &envs);
        ensure!(code == 0, "gw bench: {err}");
        let figures: Value = serde_json::from_str(&out)?;
        ours.push(figures["median_ms"].as_f64().context("`median_ms` is a number")?);
    }
    Ok([median(&mut ours), median(&mut peers)])
}

/// Our time over that of ONNX Runtime on the CPU.
fn against_cpu(key: &'static str, work: &Workload, most: f64, bar: &'static str) -> Result<Row> {
    let [ours, peer] = side_by_side(work, "llvmpipe", "onnxruntime")?;
    let ratio = ours / peer;
    let (unit, holds) = ("ms", ratio <= most);
    Ok(Row { key, ours, peer: Some(peer), ratio: Some(ratio), unit, runs: ROUNDS, bar, holds })
}

pub(super) fn minilm_llvmpipe() -> Result<Row> {
    against_cpu("minilm-llvmpipe", &Workload::minilm(128), 6.0, "<= 6x")
}

pub(super) fn lite0_llvmpipe() -> Result<Row> {
    against_cpu("lite0-llvmpipe", &Workload::of("lite0", &[]), 10.0, "<= 10x")
}

pub(super) fn ocr_det_llvmpipe() -> Result<Row> {
    let work = Workload::of("ocr-det", &["x=1x3x640x640"]);
    against_cpu("ocr-det-llvmpipe", &work, 10.0, "<= 10x")
}

pub(super) fn ocr_rec_llvmpipe() -> Result<Row> {
    let work = Workload::of("ocr-rec", &["x=1x3x48x320"]);
    against_cpu("ocr-rec-llvmpipe", &work, 10.0, "<= 10x")
}

/// Of the two lengths, the row is the one that is nearer to its bar.
pub(super) fn minilm_swiftshader() -> Result<Row> {
    let mut rows = Vec::new();
    for (length, least) in [(128, 8.0), (16, 6.0)] {
        let work = Workload::minilm(length);
        let [ours, peer] = side_by_side(&work, "swiftshader", "onnxruntime-webgpu")?;
        let ratio = peer / ours;
        say(&format!("1x{length}: {ours:.1} ms, peer {peer:.1} ms, {ratio:.1}x faster"));
        rows.push((ours, peer, ratio, ratio / least));
    }
    rows.sort_by(|a, b| a.3.total_cmp(&b.3));
    let (ours, peer, ratio, share) = rows[0];
    Ok(Row {
        key: "minilm-swiftshader",
        ours,
        peer: Some(peer),
        ratio: Some(ratio),
        unit: "ms",
        runs: ROUNDS,
        bar: ">= 8x, 6x at 16",
        holds: share >= 1.0,
    })
}

/// What a product is measured against.
enum Against {
    /// The kernel that anyone would write first, in the same process.
    Naive,
    /// A program.
    Peer(&'static str, fn(usize) -> Vec<String>),
}

pub(super) fn gemm_naive() -> Result<Row> {
    product("gemm-naive", &Against::Naive, 25.0, ">= 25x")
}

pub(super) fn gemm_burn() -> Result<Row> {
    let against = Against::Peer("burn", |size| vec![size.to_string()]);
    product("gemm-burn", &against, 2.5, ">= 2.5x")
}

pub(super) fn gemm_ort() -> Result<Row> {
    let against = Against::Peer("onnxruntime", |size| {
        let model = crate::repo().join("tests/peers/matmul.onnx");
        let shape = |name: &str| format!("{name}={size}x{size}");
        vec![model.display().to_string(), shape("a"), shape("b")]
    });
    product("gemm-ort", &against, 0.15, ">= 0.15x")
}

/// Products of 512 and 1024, of two matrices that are both inputs; the row is the worse of them.
fn product(key: &'static str, against: &Against, least: f64, bar: &'static str) -> Result<Row> {
    let device = Device::open(&AdapterSelect::Named("llvmpipe".to_owned()))?;
    let mut worst: Option<Row> = None;
    for width in [512u32, 1024] {
        let size = width as usize;
        let mut peer = match against {
            Against::Naive => None,
            Against::Peer(name, args) => Some(Peer::start(name, &args(size), &[])?),
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let tiled = tiled(width, &device)?;
        for _ in 0..ROUNDS {
            theirs.push(match &mut peer {
                Some(peer) => peer.round()?,
                None => time(&device, &naive(width), size, 3)?,
            });
            ours.push(time(&device, &tiled, size, 15)?);
        }
        let speed = |ms: f64| 2.0 * (size as f64).powi(3) / ms / 1e6;
        let (ours, theirs) = (speed(median(&mut ours)), speed(median(&mut theirs)));
        let ratio = ours / theirs;
        say(&format!("{size}: {ours:.1} GFLOP/s, peer {theirs:.1}, {ratio:.2}x"));
        if worst.as_ref().is_none_or(|worst| Some(ratio) < worst.ratio) {
            worst = Some(Row {
                key,
                ours,
                peer: Some(theirs),
                ratio: Some(ratio),
                unit: "GFLOP/s",
                runs: ROUNDS,
                bar,
                holds: ratio >= least,
            });
        }
    }
    worst.context("two sizes were measured")
}

/// The median of `runs` on random matrices, in milliseconds, after one that compiles.
fn time(device: &Device, dispatch: &Dispatch, size: usize, runs: usize) -> Result<f64> {
    let mut random = crate::random::Random(7);
    let mut matrix = || -> Vec<u8> {
        let mut value = || random.below(2001) as f32 / 1000.0 - 1.0;
        (0..size * size).flat_map(|_| value().to_le_bytes()).collect()
    };
    let buffers = [matrix(), matrix(), vec![0; 4 * size * size]];
    let times = device.time_dispatch(dispatch, &buffers, runs + 1)?;
    let mut times: Vec<f64> = times[1..].iter().map(|time| time.as_secs_f64() * 1e3).collect();
    Ok(median(&mut times))
}

/// What the engine runs once it has measured its variants, of which none on a software adapter has
/// workgroup memory.
fn tiled(size: u32, device: &Device) -> Result<Dispatch> {
    let dense = Matrix::dense([1, 1], size, size);
    let spec = gemm::Spec {
        batch: [1, 1],
        m: size,
        n: size,
        k: size,
        a: dense,
        b: Weights::Strided(dense),
        output: dense,
        epilogue: Epilogue::identity(),
    };
    let mut fastest: Option<(f64, Dispatch)> = None;
    for dispatch in gemm::variants(&spec, &device.caps())? {
        if dispatch.kernel.needs.workgroup_bytes > 0 {
            continue;
        }
        let time = time(device, &dispatch, size as usize, 3)?;
        if fastest.as_ref().is_none_or(|(least, _)| time < *least) {
            fastest = Some((time, dispatch));
        }
    }
    let (_, fastest) = fastest.context("a product has variants")?;
    say(&format!("{size}: by {}", fastest.kernel.variant));
    Ok(fastest)
}

/// One invocation per element, no tiles.
fn naive(size: u32) -> Dispatch {
    let source = "
        @group(0) @binding(0) var<storage, read> a: array<f32>;
        @group(0) @binding(1) var<storage, read> b: array<f32>;
        @group(0) @binding(2) var<storage, read_write> c: array<f32>;
        var<immediate> size: u32;
        @compute @workgroup_size(8, 8)
        fn main(@builtin(global_invocation_id) at: vec3<u32>) {
            var sum = 0.0;
            for (var k = 0u; k < size; k++) {
                sum += a[at.y * size + k] * b[k * size + at.x];
            }
            c[at.y * size + at.x] = sum;
        }";
    let kernel = Kernel {
        name: "naive",
        variant: "8x8".to_owned(),
        source: source.to_owned(),
        bindings: vec![Access::Read, Access::Read, Access::ReadWrite],
        needs: Needs { workgroup_invocations: 64, ..Needs::default() },
    };
    Dispatch { kernel, params: vec![size], workgroups: [size / 8, size / 8, 1] }
}
