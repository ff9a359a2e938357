//! Where the plans of a session come from: the planner, or the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gw_shaders::kernel::{Caps, Kernel};
use gw_tensor::Shape;

use super::tune::{self, Tuning};
use crate::error::PlanError;
use crate::model::{Model, PlanOptions, Signature, Stage};
use crate::net::oracle::Answer;
use crate::plan::Plan;
use crate::plan::store::{Key, PlanCache, Stored};

/// Plans that one session keeps on disk, at most: a model whose every run has shapes or values of
/// its own would write for as long as it runs.
const KEPT_MAX: usize = 512;

pub(super) type Shapes = BTreeMap<String, Shape>;
type Planner = dyn Fn(&Shapes, &[Answer], &Caps) -> Result<Stage, PlanError> + Send + Sync;

/// Makes plans, or finds them.
pub(super) struct Planning {
    planner: Box<Planner>,
    disk: Option<Disk>,
    tuning: Option<Arc<Tuning>>,
    planned: AtomicUsize,
    loaded: AtomicUsize,
}

/// Plans of a model that an earlier session made.
struct Disk {
    cache: Arc<PlanCache>,
    model: Arc<Model>,
    options: PlanOptions,
    tuning: Option<Arc<Tuning>>,
    /// How many more may be written.
    left: AtomicUsize,
}

impl Planning {
    /// Plans from `planner` alone.
    pub(super) fn new<P>(planner: P) -> Self
    where
        P: Fn(&Shapes, &[Answer], &Caps) -> Result<Stage, PlanError> + Send + Sync + 'static,
    {
        let counts = (AtomicUsize::default(), AtomicUsize::default());
        let (planned, loaded) = counts;
        Self { planner: Box::new(planner), disk: None, tuning: None, planned, loaded }
    }

    /// Plans of `model`, from `cache` where they are there, with the variants that `tuning` knows.
    pub(super) fn of(
        model: Arc<Model>,
        options: PlanOptions,
        cache: Option<Arc<PlanCache>>,
        tuning: Option<Arc<Tuning>>,
    ) -> Self {
        let left = AtomicUsize::new(KEPT_MAX);
        let disk = cache.map(|cache| {
            let (model, tuning) = (Arc::clone(&model), tuning.clone());
            Disk { cache, model, options, tuning, left }
        });
        let planner = move |shapes: &Shapes, answers: &[Answer], caps: &Caps| {
            model.stage(shapes, answers, caps, options)
        };
        Self { disk, tuning, ..Self::new(planner) }
    }

    /// How many stages were planned.
    pub(super) fn planned(&self) -> usize {
        self.planned.load(Ordering::Relaxed)
    }

    /// How many stages came from the disk.
    pub(super) fn loaded(&self) -> usize {
        self.loaded.load(Ordering::Relaxed)
    }

    /// What the next part of a run with these shapes and answers is. `ahead` may be told of its
    /// kernels before it is there.
    pub(super) fn stage(
        &self,
        signature: &Signature,
        shapes: &Shapes,
        answers: &[Answer],
        caps: &Caps,
        ahead: &dyn Fn(&[Kernel]),
    ) -> Result<Stored, PlanError> {
        let Some(disk) = &self.disk else { return self.tuned(shapes, answers, caps) };
        let key = disk.key(shapes, answers, caps);
        let found = disk.cache.load(&key, disk.model.constants(), caps, ahead);
        if let Some(stored) = found.filter(|found| fits(found, signature, shapes, answers)) {
            self.loaded.fetch_add(1, Ordering::Relaxed);
            return Ok(stored);
        }
        let stored = self.tuned(shapes, answers, caps)?;
        disk.keep(&key, &stored);
        Ok(stored)
    }

    /// A new plan, with the variants that are known to be the fastest.
    fn tuned(&self, shapes: &Shapes, answers: &[Answer], caps: &Caps) -> Result<Stored, PlanError> {
        let mut stored = self.plan(shapes, answers, caps)?;
        self.planned.fetch_add(1, Ordering::Relaxed);
        if let (Some(tuning), Stored::Whole(plan)) = (&self.tuning, &mut stored)
            && tune::unknown(plan, tuning).is_empty()
        {
            tuning.choose(plan, caps);
        }
        Ok(stored)
    }

    /// A new plan, with the variants that come first.
    pub(super) fn plan(
        &self,
        shapes: &Shapes,
        answers: &[Answer],
        caps: &Caps,
    ) -> Result<Stored, PlanError> {
        (self.planner)(shapes, answers, caps).map(Stored::from)
    }

    /// Keeps a plan that was tuned in the place of what was kept.
    pub(super) fn keep(&self, shapes: &Shapes, answers: &[Answer], caps: &Caps, plan: Plan) {
        if let Some(disk) = &self.disk {
            disk.keep(&disk.key(shapes, answers, caps), &Stored::Whole(plan));
        }
    }
}

impl Disk {
    fn key(&self, shapes: &Shapes, answers: &[Answer], caps: &Caps) -> Key {
        let key = Key::new(&self.model.graph().digest, shapes, answers, caps, self.options);
        // Its variants were measured on this adapter with this driver.
        self.tuning.as_ref().map_or(key, |tuning| key.on(tuning.name()))
    }

    fn keep(&self, key: &Key, stored: &Stored) {
        let take = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return;
        }
        if let Err(error) = self.cache.store(key, stored, self.model.constants()) {
            // It would fail again, and the run does not need it.
            self.left.store(0, Ordering::Relaxed);
            let (model, dir) = (self.model.name(), self.cache.dir().display());
            tracing::warn!(model, %dir, %error, "plans are not kept");
        }
    }
}

/// Whether what was found has the form that a run relies on.
fn fits(stored: &Stored, signature: &Signature, shapes: &Shapes, answers: &[Answer]) -> bool {
    let takes = |plan: &Plan| {
        plan.inputs.len() == signature.inputs.len()
            && plan.inputs.iter().zip(&signature.inputs).all(|(port, input)| {
                port.name == input.name
                    && port.dtype == input.dtype
                    && shapes.get(&port.name) == Some(&port.shape)
            })
    };
    let is_known = |index: usize| {
        answers.iter().any(|answer| matches!(answer, Answer::Input(known, _) if *known == index))
    };
    match stored {
        Stored::Whole(plan) => takes(plan) && plan.outputs.len() == signature.outputs.len(),
        Stored::Value(plan) => takes(plan) && plan.outputs.len() == 1,
        Stored::Input(index) => *index < signature.inputs.len() && !is_known(*index),
    }
}
