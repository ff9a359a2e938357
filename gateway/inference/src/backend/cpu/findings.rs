//! What trials at earlier loads have found, beside the plans, so that a later start only asks.

use std::sync::Arc;

use gw_engine::PlanCache;
use gw_engine::graph::Digest;

/// The way in which a trial is done, for those that are kept. Another way is another number.
const WAY: u8 = 1;

/// Of rten, in which a trial tried a model; a test compares it with `Cargo.lock`.
const RTEN: &str = "0.27.0";

/// What trials of earlier loads have found.
pub(super) struct Findings(Option<Arc<PlanCache>>);

/// What one trial has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) by_rten: bool,
    /// Whether its rows are independent, if that was seen.
    pub(super) rows: Option<bool>,
}

impl Findings {
    /// Those that `cache` keeps.
    pub(super) fn new(cache: Option<Arc<PlanCache>>) -> Self {
        Self(cache)
    }

    pub(super) fn known(&self, model: &Digest) -> Option<Finding> {
        Finding::read(&self.0.as_ref()?.trial(model, &how())?)
    }

    pub(super) fn keep(&self, model: &Digest, finding: Finding) {
        let Some(cache) = &self.0 else { return };
        if let Err(error) = cache.keep_trial(model, &how(), &finding.bytes()) {
            let dir = cache.dir().display();
            tracing::warn!(%dir, %error, "who runs a model on the cpu is not kept");
        }
    }
}

impl Finding {
    fn bytes(self) -> [u8; 2] {
        let rows = match self.rows {
            Some(rows) => u8::from(rows),
            None => 2,
        };
        [u8::from(self.by_rten), rows]
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let &[by_rten @ 0..=1, rows @ 0..=2] = bytes else { return None };
        Some(Self { by_rten: by_rten == 1, rows: (rows < 2).then_some(rows == 1) })
    }
}

/// What a finding depends on besides the model and the engine: rten has kernels of its own for
/// some instructions, which may be wrong where others are right.
fn how() -> String {
    #[cfg(target_arch = "x86_64")]
    let instructions = [
        is_x86_feature_detected!("avx2"),
        is_x86_feature_detected!("fma"),
        is_x86_feature_detected!("avx512f"),
        is_x86_feature_detected!("avx512bw"),
        is_x86_feature_detected!("avx512vnni"),
    ];
    #[cfg(target_arch = "aarch64")]
    let instructions = [
        std::arch::is_aarch64_feature_detected!("dotprod"),
        std::arch::is_aarch64_feature_detected!("i8mm"),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let instructions: [bool; 0] = [];
    format!("cpu {WAY} rten {RTEN} {instructions:?}")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::mapped::tests::product;
    use super::super::trial::Runner;
    use super::super::{Cpu, CpuModel};
    use super::*;
    use crate::{InferenceConfig, ModelSource};

    #[test]
    fn a_later_load_asks_what_an_earlier_one_has_found() {
        let file: Bytes = product().write_buf().unwrap().into();
        let kept = tempfile::tempdir().unwrap();
        let plan_cache_dir = Some(kept.path().to_owned());
        let cpu = Cpu::new(&InferenceConfig { plan_cache_dir, ..InferenceConfig::default() });
        let runs_in_rten = || {
            let model = CpuModel::load("m", ModelSource::Bytes(&file), &cpu).unwrap();
            matches!(model.runner.get(), Some(Runner::Rten(_)))
        };
        assert!(runs_in_rten());
        let digest = gw_engine::Model::parse(file.clone(), "m").unwrap().graph().digest;
        let found = cpu.findings.known(&digest).unwrap();
        assert!(found.by_rten);
        // Another finding is believed, a damaged one is not.
        cpu.findings.keep(&digest, Finding { by_rten: false, ..found });
        assert!(!runs_in_rten());
        for file in std::fs::read_dir(kept.path()).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        assert!(runs_in_rten());
        assert_eq!(cpu.findings.known(&digest), Some(found), "it was found anew");
    }

    #[test]
    fn findings_are_read_as_they_were_kept() {
        for by_rten in [false, true] {
            for rows in [None, Some(false), Some(true)] {
                let finding = Finding { by_rten, rows };
                assert_eq!(Finding::read(&finding.bytes()), Some(finding));
            }
        }
        for damaged in [&[][..], &[1], &[2, 0], &[0, 3], &[0, 0, 0]] {
            assert_eq!(Finding::read(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn what_is_kept_names_the_rten_that_was_tried() {
        let lock =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"));
        let package = format!("name = \"rten\"\nversion = \"{RTEN}\"\n");
        assert!(lock.unwrap().contains(&package), "Cargo.lock has another rten than {RTEN}");
    }
}
