//! What is kept: whole answers of plugins, and what models answered to hooks.

use std::sync::Arc;
use std::time::Duration;

use gw_inference::Inference;

use crate::cache::answer::Answer;

/// A kept value; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    Answer(Arc<Answer>),
    Inference(Arc<Inference>),
}

/// A type that can be kept.
pub(crate) trait Keep: Send + Sync + Sized + 'static {
    fn keep(this: Arc<Self>) -> Kept;
    /// The value, unless it is of the other type.
    fn kept(kept: &Kept) -> Option<Arc<Self>>;
}

impl Keep for Answer {
    fn keep(this: Arc<Self>) -> Kept {
        Kept::Answer(this)
    }

    fn kept(kept: &Kept) -> Option<Arc<Self>> {
        match kept {
            Kept::Answer(answer) => Some(Arc::clone(answer)),
            Kept::Inference(_) => None,
        }
    }
}

impl Keep for Inference {
    fn keep(this: Arc<Self>) -> Kept {
        Kept::Inference(this)
    }

    fn kept(kept: &Kept) -> Option<Arc<Self>> {
        match kept {
            Kept::Inference(inference) => Some(Arc::clone(inference)),
            Kept::Answer(_) => None,
        }
    }
}

impl Kept {
    /// Whether what was made for one client may be given to another who asked the same.
    pub(crate) fn shareable(&self) -> bool {
        match self {
            Self::Answer(answer) => answer.shareable(),
            // A model knows nothing but its inputs, which are in the key.
            Self::Inference(_) => true,
        }
    }

    /// For how long it may be kept, at most `policy`.
    pub(crate) fn lifetime(&self, policy: Duration) -> Option<Duration> {
        match self {
            Self::Answer(answer) => answer.lifetime(policy),
            Self::Inference(_) => Some(policy).filter(|lifetime| !lifetime.is_zero()),
        }
    }

    /// Roughly what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        /// Map entries, shapes and bookkeeping, estimated generously.
        const OVERHEAD: usize = 512;
        match self {
            Self::Answer(answer) => answer.bytes(),
            Self::Inference(inference) => {
                let outputs = inference.outputs.iter();
                let bytes = outputs.map(|(name, tensor)| name.len() + tensor.bytes().len() + 128);
                OVERHEAD + bytes.sum::<usize>()
            }
        }
    }
}
