//! How a model is served: the keys of `[[model]]` that say more than what it is and where it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::reader::{Reader, Section};
use crate::duration;

/// How a model is served. What is not said is what the node does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// Which requests share a run.
    pub batch: Batching,
    /// How long the model stays in memory when nobody asks it; zero unloads it at once.
    pub keep_alive: Option<Duration>,
    /// Whether it is never evicted to make room for others. Default: `false`.
    pub pinned: bool,
    /// What an output that is not a number means. Default: `count`.
    pub nan: Nan,
    /// Outputs that are the state of an execution context, each with the input that takes it in the
    /// next run.
    pub state: BTreeMap<String, String>,
}

/// `batch`: which requests share a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batching {
    /// Rows that one run may join; 1 joins nothing. Default: what the node allows.
    pub max: Option<u64>,
    /// How long a request waits for others. Default: not at all.
    pub max_delay: Duration,
    /// Inputs that may be made longer so that requests of different lengths share a run, and what
    /// they are filled with.
    pub pad: BTreeMap<String, i64>,
}

/// What an output that is not a number means for its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nan {
    /// It is counted.
    #[default]
    Count,
    /// The run fails.
    Refuse,
}

/// The keys that [`read`] reads.
pub(super) const KEYS: [&str; 5] = ["batch", "keep_alive", "pinned", "nan", "state"];

/// Reads how one `[[model]]` is served; mistakes leave the defaults.
pub(super) fn read(section: &mut Section<'_, '_, '_>) -> Serving {
    let batch = section.value("batch").map(|table| batch(section.reader, table));
    let keep_alive = section.parsed_by("keep_alive", duration::parse);
    let pinned = section.flag("pinned").unwrap_or(false);
    let nan = section.parsed_by("nan", |text| match text {
        "count" => Ok(Nan::Count),
        "refuse" => Ok(Nan::Refuse),
        _ => Err(format!("`{text}` is no policy: use count or refuse")),
    });
    let state = state(section);
    if batch.is_some() && !state.is_empty() {
        let at = section.place("batch");
        let message = "`batch` beside `state`: a model with state is never batched, leave it out";
        section.reader.mistake(at, message);
    }
    Serving {
        batch: batch.unwrap_or_default(),
        keep_alive,
        pinned,
        nan: nan.unwrap_or_default(),
        state,
    }
}

fn batch<'d>(reader: &mut Reader<'_>, table: &'d Spanned<DeValue<'d>>) -> Batching {
    let known = ["max", "max_delay", "pad"];
    let Some(mut section) = Section::open(reader, table, "`batch`", &known) else {
        return Batching::default();
    };
    let max = section.count("max");
    if max == Some(0) {
        let at = section.place("max");
        section.reader.mistake(at, "`max` is 0: no request could be answered; 1 joins nothing");
    }
    let max_delay = section.parsed_by("max_delay", duration::parse).unwrap_or_default();
    Batching { max, max_delay, pad: section.numbers("pad") }
}

/// Outputs with their inputs. An input takes one output: of two nobody could say which.
fn state(section: &mut Section<'_, '_, '_>) -> BTreeMap<String, String> {
    let mut taken = BTreeSet::new();
    let mut state = BTreeMap::new();
    for (output, (input, at)) in section.pairs("state") {
        if !taken.insert(input.clone()) {
            let message = format!("two outputs of `state` are the next `{input}`: keep one");
            section.reader.mistake(at, message);
        }
        state.insert(output, input);
    }
    state
}
