//! Where the file of a model is, for whenever it is loaded.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::backend::ModelSource;

/// Where the bytes of a model are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Bytes(Bytes),
}

impl Source {
    pub(super) fn get(&self) -> ModelSource<'_> {
        match self {
            Self::File(path) => ModelSource::File(path),
            Self::Bytes(bytes) => ModelSource::Bytes(bytes),
        }
    }

    fn is_there(&self) -> bool {
        match self {
            Self::File(path) => path.exists(),
            Self::Bytes(_) => true,
        }
    }

    /// The size of the file, which is a guess at what its weights take.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::File(path) => std::fs::metadata(path).map_or(0, |data| data.len()),
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

/// All places where the same file was found. Those before may be gone: each revision of an app has
/// its own.
pub(super) struct Sources(Mutex<Vec<Source>>);

impl Sources {
    pub(super) fn new(first: Source) -> Self {
        Self(Mutex::new(vec![first]))
    }

    /// It was found here.
    pub(super) fn found(&self, source: &Source) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|known| known != source && known.is_there());
        sources.push(source.clone());
    }

    /// Where it was found last, of where it still is.
    pub(super) fn latest(&self) -> Source {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = sources.iter().rev().find(|source| source.is_there());
        there.or(sources.last()).expect("one is always left").clone()
    }
}
