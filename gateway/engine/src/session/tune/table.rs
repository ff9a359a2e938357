//! What was measured: the fastest variant for each class of dispatch.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gw_shaders::kernel::{Caps, Dispatch, Kernel};
use serde::{Deserialize, Serialize};

use crate::device::{AdapterInfo, Device};
use crate::graph::Digester;
use crate::plan::store::{PlanCache, SOURCES};
use crate::plan::why::Reason;
use crate::plan::{Plan, Step};

/// Dispatches that should be done the same way: one kernel, and numbers of about one size.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::session) struct Class(String);

impl Class {
    /// The class of what the default variant does.
    pub(super) fn of(default: &Dispatch) -> Self {
        let mut digester = Digester::default();
        digester.add(default.kernel.source.as_bytes());
        for word in &default.params {
            // Sizes and strides up to the next power of two.
            digester.add(&word.saturating_sub(1).leading_zeros().to_le_bytes());
        }
        let mut name = digester.finish().to_string();
        // Short enough to be read; two of one name would at worst be slow.
        name.truncate(16);
        Self(name)
    }
}

/// The fastest variant of a class, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Found {
    kernel: String,
    variant: String,
    /// Microseconds of one dispatch.
    us: f64,
    default: String,
    default_us: f64,
    /// Whether every variant was measured; else there was no time, and a later process looks again.
    complete: bool,
}

/// Steps of a plan that are done another way than by default, and the times that decided it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tuned {
    /// The first of the steps.
    pub step: String,
    /// How many other steps of the plan are of the same class.
    pub others: usize,
    /// The variant that comes first.
    pub default: String,
    /// Microseconds of one dispatch of it.
    pub default_us: f64,
    /// The variant that is taken.
    pub variant: String,
    /// Microseconds of one dispatch of it.
    pub us: f64,
}

impl fmt::Display for Tuned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.step)?;
        if self.others > 0 {
            write!(f, " and {} more", self.others)?;
        }
        let Self { default, default_us, variant, us, .. } = self;
        write!(f, ": {default} {default_us:.1} µs, now {variant} {us:.1} µs")
    }
}

/// The file: for people too, so it names the adapter.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct File {
    adapter: String,
    driver: String,
    fastest: BTreeMap<Class, Found>,
}

/// What was measured on one device, for all of its models.
///
/// It is kept beside the plans, in a file per adapter, driver and source of the kernels. It decides
/// how fast answers come, never what they are; whatever is wrong with the file is a miss.
#[derive(Debug)]
pub struct Tuning {
    budget: Duration,
    cache: Option<Arc<PlanCache>>,
    name: String,
    file: Mutex<(File, bool)>,
}

impl Tuning {
    /// What is known of `device`. A model takes at most `budget` of it for measurements; with none
    /// the variants that were found earlier are used, and nothing is measured.
    pub fn new(device: &Device, cache: Option<Arc<PlanCache>>, budget: Duration) -> Self {
        let info = device.info();
        let name = name(info, &device.caps());
        let kept = cache.as_ref().and_then(|cache| cache.tuning(&name));
        let mut file: File =
            kept.and_then(|kept| serde_json::from_slice(&kept).ok()).unwrap_or_default();
        file.adapter.clone_from(&info.name);
        file.driver.clone_from(&info.driver);
        Self { budget, cache, name, file: Mutex::new((file, false)) }
    }

    pub(in crate::session) fn budget(&self) -> Duration {
        self.budget
    }

    /// What names the adapter, its driver and the kernels.
    pub(in crate::session) fn name(&self) -> &str {
        &self.name
    }

    /// Whether all variants of a class were measured.
    pub(super) fn knows(&self, class: &Class) -> bool {
        self.file().0.fastest.get(class).is_some_and(|found| found.complete)
    }

    /// Whether a faster variant than the default that a step has is known.
    pub(super) fn is_better_known(&self, step: &Step) -> bool {
        let found = self.file().0.fastest.get(&Class::of(&step.dispatch)).cloned();
        found.is_some_and(|found| found.variant != step.dispatch.kernel.variant)
    }

    /// Notes the fastest variant of a class, and the times of it and of the default.
    pub(super) fn note(
        &self,
        class: &Class,
        fastest: &Kernel,
        times: [f64; 2],
        default: &Kernel,
        complete: bool,
    ) {
        let [us, default_us] = times;
        let (kernel, variant) = (fastest.name.to_owned(), fastest.variant.clone());
        let default = default.variant.clone();
        let found = Found { kernel, variant, us, default, default_us, complete };
        tracing::debug!(?found, "tuned");
        let mut file = self.file();
        file.0.fastest.insert(class.clone(), found);
        file.1 = true;
    }

    /// Gives every step of a fresh plan the variant that is known to be the fastest; whether there
    /// was one.
    pub fn choose(&self, plan: &mut Plan, caps: &Caps) -> bool {
        let file = self.file();
        let mut any = false;
        for step in &mut plan.steps {
            if step.choice.reason == Reason::Default
                && let Some(found) = file.0.fastest.get(&Class::of(&step.dispatch))
            {
                any |= take(step, found, caps);
            }
        }
        any
    }

    /// The steps of a plan that have another variant than their default. `classes` are those of
    /// the plan before [`Self::choose`].
    pub(super) fn changes(&self, classes: &[Class], plan: &Plan) -> Vec<Tuned> {
        let file = self.file();
        let mut changes: Vec<(&Class, Tuned)> = Vec::new();
        for (class, step) in classes.iter().zip(&plan.steps) {
            if let Some((_, tuned)) = changes.iter_mut().find(|(known, _)| *known == class) {
                tuned.others += 1;
                continue;
            }
            let variant = &step.dispatch.kernel.variant;
            let found = file.0.fastest.get(class);
            let found =
                found.filter(|found| found.variant == *variant && found.default != *variant);
            if let Some(found) = found.filter(|_| step.choice.reason == Reason::Tuned) {
                let (default, variant) = (found.default.clone(), variant.clone());
                let (step, others) = (step.label.clone(), 0);
                let (us, default_us) = (found.us, found.default_us);
                changes.push((class, Tuned { step, others, default, default_us, variant, us }));
            }
        }
        changes.into_iter().map(|(_, tuned)| tuned).collect()
    }

    /// Writes what is new to the disk, beside what other processes found.
    pub(super) fn save(&self) {
        let Some(cache) = &self.cache else { return };
        let mut file = self.file();
        if !std::mem::take(&mut file.1) {
            return;
        }
        let kept = cache.tuning(&self.name);
        let kept: File =
            kept.and_then(|kept| serde_json::from_slice(&kept).ok()).unwrap_or_default();
        for (class, found) in kept.fastest {
            file.0.fastest.entry(class).or_insert(found);
        }
        let text = serde_json::to_vec_pretty(&file.0).unwrap_or_default();
        if let Err(error) = cache.keep_tuning(&self.name, &text) {
            let dir = cache.dir().display();
            tracing::warn!(%dir, %error, "what was tuned is not kept");
        }
    }

    fn file(&self) -> MutexGuard<'_, (File, bool)> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a step the variant of this name, where there is one that binds the same.
fn take(step: &mut Step, found: &Found, caps: &Caps) -> bool {
    let kernel = &step.dispatch.kernel;
    if kernel.variant != found.variant {
        let variants = step.work.as_ref().and_then(|work| work.variants(caps).ok());
        let named = |dispatch: &Dispatch| {
            dispatch.kernel.variant == found.variant && dispatch.kernel.bindings == kernel.bindings
        };
        let Some(dispatch) = variants.and_then(|all| all.into_iter().find(named)) else {
            return false;
        };
        let others = &mut step.choice.alternatives;
        others.retain(|variant| *variant != found.variant);
        others.insert(0, kernel.variant.clone());
        step.dispatch = dispatch;
    }
    step.choice.reason = Reason::Tuned;
    true
}

/// The file of an adapter with a driver and these kernels.
fn name(info: &AdapterInfo, caps: &Caps) -> String {
    let mut digester = Digester::default();
    for part in [&info.name, &info.backend, &info.driver, &format!("{caps:?}")] {
        digester.add(part.as_bytes());
    }
    digester.add(SOURCES.as_bytes());
    digester.finish().to_string()
}

#[cfg(test)]
mod tests {
    use gw_shaders::gemm::{self, Epilogue, Weights};
    use gw_shaders::layout::Matrix;
    use gw_shaders::work::Cost;

    use super::*;
    use crate::plan::why::Choice;

    fn product(m: u32) -> Dispatch {
        let spec = gemm::Spec {
            batch: [1, 1],
            m,
            n: 64,
            k: 64,
            a: Matrix::dense([1, 1], m, 64),
            b: Weights::PackedF32,
            output: Matrix::dense([1, 1], m, 64),
            epilogue: Epilogue::identity(),
        };
        gemm::dispatch(&spec, &Caps::minimal()).unwrap()
    }

    #[test]
    fn a_class_is_one_kernel_with_numbers_of_about_one_size() {
        assert_eq!(Class::of(&product(128)), Class::of(&product(100)));
        assert_ne!(Class::of(&product(128)), Class::of(&product(129)));
        // Few rows have another default.
        assert_ne!(Class::of(&product(128)), Class::of(&product(1)));
    }

    #[test]
    fn steps_that_change_are_told_with_both_variants_and_their_times() {
        let tuning = Tuning::new(&Device::noop(), None, Duration::from_secs(1));
        let default = product(128);
        let mut fast = default.clone();
        fast.kernel.variant = "fast".to_owned();
        let few = product(1);
        tuning.note(&Class::of(&default), &fast.kernel, [10.0, 20.0], &default.kernel, true);
        tuning.note(&Class::of(&few), &few.kernel, [1.0, 1.0], &few.kernel, true);
        let step = |label: &str, dispatch: &Dispatch| Step {
            label: label.to_owned(),
            nodes: Vec::new(),
            choice: Choice { reason: Reason::Tuned, alternatives: Vec::new() },
            work: None,
            cost: Cost::default(),
            dispatch: dispatch.clone(),
            bindings: Vec::new(),
        };
        let steps = vec![step("a", &fast), step("b", &few), step("c", &fast)];
        let plan = Plan { steps, ..Plan::default() };
        let classes = [&default, &few, &default].map(Class::of);
        let changes = tuning.changes(&classes, &plan);
        let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
        let before = &default.kernel.variant;
        assert_eq!(told, [format!("a and 1 more: {before} 20.0 µs, now fast 10.0 µs")]);
    }

    #[test]
    fn what_one_process_finds_another_knows() {
        let folder = tempfile::tempdir().unwrap();
        let cache = || Some(Arc::new(PlanCache::new(folder.path(), 1 << 20)));
        let device = Device::noop();
        let open = || Tuning::new(&device, cache(), Duration::from_secs(1));
        let (one, other) = (open(), open());
        let [few, many] = [product(8), product(128)];
        for (tuning, product) in [(&one, &few), (&other, &many)] {
            tuning.note(&Class::of(product), &product.kernel, [1.0, 2.0], &product.kernel, true);
            tuning.save();
        }
        let later = open();
        assert!(later.knows(&Class::of(&few)) && later.knows(&Class::of(&many)));
        assert!(!later.knows(&Class::of(&product(1))));
    }

    #[test]
    fn a_damaged_file_is_a_miss_and_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let cache = || Some(Arc::new(PlanCache::new(folder.path(), 1 << 20)));
        let device = Device::noop();
        let class = Class::of(&product(8));
        let note = || {
            let tuning = Tuning::new(&device, cache(), Duration::from_secs(1));
            assert!(!tuning.knows(&class));
            tuning.note(&class, &product(8).kernel, [1.0, 2.0], &product(8).kernel, true);
            tuning.save();
        };
        note();
        let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        std::fs::write(&file, b"{\"fastest\": {\"x\"").unwrap();
        note();
        assert!(Tuning::new(&device, cache(), Duration::ZERO).knows(&class));
    }
}
