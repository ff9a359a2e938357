//! What decides a plan. Everything is destructured, so that a new field is in the key or does
//! not compile.

use std::collections::BTreeMap;

use gw_shaders::kernel::Caps;
use gw_tensor::{Shape, Tensor};

use crate::graph::{Digest, Digester};
use crate::model::{PlanOptions, WeightMode};
use crate::net::oracle::Answer;

/// Names the code that makes plans: its sources and those of the kernels, by `build.rs`.
pub(crate) const SOURCES: &str = env!("GW_ENGINE_SOURCES");

/// The name of a kept plan. Equal keys name equal plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub(super) Digest);

impl Key {
    /// The key of what is planned for the model with the digest `model`, with one shape per input
    /// and with what is known of the run.
    pub(crate) fn new(
        model: &Digest,
        shapes: &BTreeMap<String, Shape>,
        answers: &[Answer],
        caps: &Caps,
        options: PlanOptions,
    ) -> Self {
        let mut fields = Fields::of_this_code();
        // Weights lie in the order and the indices in the width of this machine.
        fields.number(usize::BITS.into()).bytes(&1u16.to_ne_bytes());
        fields.bytes(&model.0);
        fields.number(shapes.len() as u64);
        for (name, shape) in shapes {
            fields.bytes(name.as_bytes()).shape(shape);
        }
        fields.number(answers.len() as u64);
        for answer in answers {
            match answer {
                Answer::Input(index, value) => fields.number(1).number(*index as u64).tensor(value),
                Answer::Value(value) => fields.number(2).tensor(value),
            };
        }
        fields.caps(caps).options(options);
        Self(fields.0.finish())
    }

    /// The key of the same plan on one adapter, which `adapter` names.
    pub(crate) fn on(self, adapter: &str) -> Self {
        let mut fields = Fields::default();
        fields.bytes(&self.0.0).bytes(adapter.as_bytes());
        Self(fields.0.finish())
    }

    /// The key of a trial of the model with the digest `model`.
    pub(super) fn of_trial(model: &Digest, how: &str) -> Self {
        let mut fields = Fields::of_this_code();
        fields.bytes(b"trial").bytes(&model.0).bytes(how.as_bytes());
        Self(fields.0.finish())
    }

    /// The file's name.
    pub(super) fn name(&self) -> String {
        format!("{}.plan", self.0)
    }
}

#[derive(Default)]
struct Fields(Digester);

impl Fields {
    fn of_this_code() -> Self {
        let mut fields = Self::default();
        fields.bytes(env!("CARGO_PKG_VERSION").as_bytes()).bytes(SOURCES.as_bytes());
        fields
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.add(bytes);
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn shape(&mut self, shape: &Shape) -> &mut Self {
        self.number(shape.len() as u64);
        for &size in shape.iter() {
            self.number(size as u64);
        }
        self
    }

    fn tensor(&mut self, tensor: &Tensor) -> &mut Self {
        self.bytes(tensor.dtype().name().as_bytes()).shape(tensor.shape()).bytes(tensor.bytes())
    }

    fn caps(&mut self, caps: &Caps) -> &mut Self {
        let Caps {
            subgroup,
            f16,
            int64,
            workgroup_invocations,
            workgroup_bytes,
            workgroups_per_dimension,
            storage_buffers,
            binding_bytes,
            software,
            avx512,
        } = *caps;
        // No subgroup has size 0.
        let (least, most) = subgroup.unwrap_or((0, 0));
        for number in [
            least,
            most,
            f16.into(),
            int64.into(),
            workgroup_invocations,
            workgroup_bytes,
            workgroups_per_dimension,
            storage_buffers,
            software.into(),
            avx512.into(),
        ] {
            self.number(number.into());
        }
        self.number(binding_bytes)
    }

    fn options(&mut self, PlanOptions { weights, fuse }: PlanOptions) -> &mut Self {
        let weights = match weights {
            WeightMode::Int8 => 0,
            WeightMode::F32 => 1,
        };
        self.number(weights).number(fuse.into())
    }
}
