//! Whether the rows of a model's batch are independent: judged once, by the shapes of a run.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use gw_engine::Model;
use gw_tensor::Shape;

use super::guard::guard;
use super::import::draws_numbers;
use crate::Signature;
use crate::batch::has_batch;
use crate::signature::Dim;

/// What is known of a model's rows.
pub(super) struct Rows(OnceLock<bool>);

impl Rows {
    /// Of a model that the engine can judge.
    pub(super) fn of(model: &Model, signature: &Signature) -> Self {
        // Numbers are drawn for the places of a whole tensor.
        match has_batch(signature) && !draws_numbers(model.graph()) {
            true => Self(OnceLock::new()),
            false => Self::meet(),
        }
    }

    /// They are not independent, or nobody can tell.
    pub(super) fn meet() -> Self {
        Self(OnceLock::from(false))
    }

    /// As an earlier load has found.
    pub(super) fn tell(&self, are_independent: bool) {
        let _ = self.0.set(are_independent);
    }

    /// Whether they are independent; `None` before a run has told.
    pub(super) fn known(&self) -> Option<bool> {
        self.0.get().copied()
    }

    /// Judges by the shapes of a run that succeeded, in the signature's order. Along an axis of one
    /// element nothing is seen: such a run does not tell.
    pub(super) fn judge<'a>(
        &self,
        model: &Model,
        signature: &Signature,
        shapes: impl Iterator<Item = &'a Shape>,
    ) {
        if self.known().is_some() {
            return;
        }
        let shapes: BTreeMap<String, Shape> =
            signature.inputs.iter().map(|spec| spec.name.clone()).zip(shapes.cloned()).collect();
        let tells = signature.inputs.iter().all(|spec| {
            let dims = spec.dims.iter().flatten().zip(shapes[&spec.name].iter()).skip(1);
            dims.into_iter().all(|(dim, &size)| matches!(dim, Dim::Fixed(_)) || size > 1)
        });
        let shown = || {
            let judged = guard(model.name(), "rows", || Ok(model.rows_are_independent(&shapes)));
            judged.unwrap_or(false)
        };
        if tells && !*self.0.get_or_init(shown) {
            tracing::info!(
                model = model.name(),
                "its rows may depend on each other: it is neither batched nor cut"
            );
        }
    }
}
