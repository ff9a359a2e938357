//! Measured figures: each key is measured side by side with its peer and held against its bar.

use anyhow::{Result, bail};
use serde::Serialize;

mod costs;
mod dispatches;
mod embed;
mod engine;
mod host;
mod plugins;
mod process;
pub mod serving;
mod speed;

/// Of the output's range; see `models-worst-error`.
const ERROR_MAX: f64 = 1e-3;

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name, as an issue writes it.
    pub key: &'static str,
    /// What gw reaches; the median of `runs`.
    pub ours: f64,
    /// What the peer reaches in the same run, where there is a peer.
    pub peer: Option<f64>,
    /// `ours` over `peer`.
    pub ratio: Option<f64>,
    /// The unit of `ours` and `peer`.
    pub unit: &'static str,
    /// How many measurements the medians are over.
    pub runs: usize,
    /// What must hold, in words.
    pub bar: &'static str,
    /// Whether it does.
    pub holds: bool,
}

/// A figure that can be asked for.
pub struct Figure {
    /// Its name.
    pub key: &'static str,
    /// What it measures, in a line.
    pub about: &'static str,
    /// Measures it.
    pub measure: fn() -> Result<Row>,
}

/// Every figure, in the order of the issues that ask for them.
pub const FIGURES: &[Figure] = &[
    Figure {
        key: "embed-agreement",
        about: "worst cosine of 01-embed to ONNX Runtime over five sentences, on cpu and llvmpipe",
        measure: embed::agreement,
    },
    Figure {
        key: "embed-dispatches",
        about: "dispatches of the MiniLM model at 1x128",
        measure: embed::dispatches,
    },
    Figure {
        key: "embed-guest-ms",
        about: "p50 of guest time outside compute, for an input of 32 tokens",
        measure: embed::guest_ms,
    },
    Figure {
        key: "conformance-gpu",
        about: "ONNX's 1,765 node tests on llvmpipe, without the CPU",
        measure: engine::conformance_gpu,
    },
    Figure {
        key: "conformance-cpu",
        about: "ONNX's 1,765 node tests, the CPU running what llvmpipe refuses",
        measure: engine::conformance_cpu,
    },
    Figure {
        key: "models-worst-error",
        about: "largest error to ONNX Runtime over all real models, on cpu, llvmpipe, SwiftShader",
        measure: engine::models_worst_error,
    },
    Figure {
        key: "dispatches-minilm",
        about: "dispatches of MiniLM-L6 at 1x128, with its padding mask",
        measure: dispatches::minilm,
    },
    Figure {
        key: "dispatches-lite0",
        about: "dispatches of EfficientNet-lite0",
        measure: dispatches::lite0,
    },
    Figure {
        key: "dispatches-ocr-det",
        about: "dispatches of PP-OCR's detector at 640x640",
        measure: dispatches::ocr_det,
    },
    Figure {
        key: "dispatches-resnet50",
        about: "dispatches of ResNet-50",
        measure: dispatches::resnet50,
    },
    Figure {
        key: "dispatches-silero",
        about: "dispatches of Silero VAD",
        measure: dispatches::silero,
    },
    Figure {
        key: "minilm-llvmpipe",
        about: "MiniLM at 1x128 on llvmpipe, against ONNX Runtime on the CPU",
        measure: speed::minilm_llvmpipe,
    },
    Figure {
        key: "minilm-swiftshader",
        about: "MiniLM on SwiftShader, against ONNX Runtime's WebGPU provider there",
        measure: speed::minilm_swiftshader,
    },
    Figure {
        key: "gemm-naive",
        about: "f32 products of 512 and 1024 on llvmpipe, against a naive kernel",
        measure: speed::gemm_naive,
    },
    Figure {
        key: "gemm-burn",
        about: "the same against burn (builds burn for some twenty minutes, the first time)",
        measure: speed::gemm_burn,
    },
    Figure {
        key: "gemm-ort",
        about: "the same against ONNX Runtime on the CPU",
        measure: speed::gemm_ort,
    },
    Figure {
        key: "lite0-llvmpipe",
        about: "EfficientNet-lite0 on llvmpipe, against ONNX Runtime on the CPU",
        measure: speed::lite0_llvmpipe,
    },
    Figure {
        key: "ocr-det-llvmpipe",
        about: "PP-OCR's detector on llvmpipe, against ONNX Runtime on the CPU",
        measure: speed::ocr_det_llvmpipe,
    },
    Figure {
        key: "ocr-rec-llvmpipe",
        about: "PP-OCR's recogniser on llvmpipe, against ONNX Runtime on the CPU",
        measure: speed::ocr_rec_llvmpipe,
    },
    Figure {
        key: "encode-us",
        about: "encoding and submitting MiniLM at 1x128, per dispatch, on llvmpipe and noop",
        measure: host::encode_us,
    },
    Figure {
        key: "warm-start-ms",
        about: "MiniLM's first answer on llvmpipe from the start of a process, with warm caches",
        measure: host::warm_start_ms,
    },
    Figure {
        key: "handler-rps",
        about: "a hello handler's requests per second, against wasmtime serve (builds it)",
        measure: plugins::handler_rps,
    },
    Figure {
        key: "hooks-rps",
        about: "hello hooks' requests per second, against the same handler on wasmtime serve",
        measure: plugins::hooks_rps,
    },
    Figure {
        key: "instantiate-us",
        about: "making an instance of a small guest, p50; memory over 200,000 requests",
        measure: plugins::instantiate_us,
    },
    Figure {
        key: "preinit",
        about: "the embed plugin's first request, beyond its hundredth",
        measure: plugins::preinit,
    },
    Figure {
        key: "batch-gain",
        about: "32 callers on MiniLM, against batches of 32 and unbatched, on llvmpipe and cpu",
        measure: serving::batching::gain,
    },
    Figure {
        key: "http-embeddings",
        about: "embeddings over HTTP on the cpu, against FastAPI with ONNX Runtime",
        measure: serving::embeddings::http_embeddings,
    },
    Figure {
        key: "http-memory",
        about: "resident memory behind that load, against the same",
        measure: serving::embeddings::http_memory,
    },
    Figure {
        key: "overload-p99",
        about: "p99 at 10x overload, against 0.8x of the peak; wait_max is 50ms",
        measure: serving::overload::p99,
    },
    Figure {
        key: "overload-goodput",
        about: "accepted requests at 10x overload, against the peak; wait_max is 50ms",
        measure: serving::overload::goodput,
    },
    Figure {
        key: "fairness",
        about: "a tenant's p99 beside one at 100x its share, against beside a modest one",
        measure: serving::fairness::row,
    },
    Figure {
        key: "soak",
        about: "memory at rest after 30 minutes of loads, evictions and failures (GW_SOAK=2m)",
        measure: serving::soak::row,
    },
    Figure {
        key: "cold-start",
        about: "MiniLM's second cold start on the cpu and llvmpipe, against its first",
        measure: serving::residency::cold_start,
    },
    Figure {
        key: "metering",
        about: "device time charged to tenants, against what devices were busy, in seconds",
        measure: serving::metering::row,
    },
    Figure {
        key: "load-cycles",
        about: "memory after 1,000 loads and unloads of two models, against after 50",
        measure: serving::residency::load_cycles,
    },
    Figure {
        key: "plugin-costs",
        about: "guest time and peak memory of the first-party plugins, against their READMEs",
        measure: costs::row,
    },
];

/// The figures called `keys`, or all where none is given.
///
/// # Errors
/// Where a key is unknown; the error lists the known ones.
pub fn select(keys: &[String]) -> Result<Vec<&'static Figure>> {
    if keys.is_empty() {
        return Ok(FIGURES.iter().collect());
    }
    keys.iter()
        .map(|key| match FIGURES.iter().find(|figure| figure.key == key) {
            Some(figure) => Ok(figure),
            None => {
                let known: Vec<_> = FIGURES.iter().map(|figure| figure.key).collect();
                bail!("no figure is called `{key}`; there are: {}", known.join(", "))
            }
        })
        .collect()
}

/// A line for people who wait for a row.
fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The middle value, or the mean of the middle two.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle_two() {
        assert!((median(&mut [4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < f64::EPSILON);
        assert!((median(&mut [9.0, 1.0, 5.0]) - 5.0).abs() < f64::EPSILON);
    }

    #[test]
    fn an_unknown_key_lists_the_known_ones() {
        let error = select(&["embed-agrement".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("embed-agreement"), "{error}");
    }
}
