//! Plans on disk, so that a second start of a model plans nothing.
//!
//! A folder holds one file per plan, named by everything that decides the plan, and one per
//! large weight, named by its bytes, so that plans and models share them; beside them what was
//! measured of kernels, one file per adapter, and what trials of models on the CPU have found.
//! Several processes may use one folder: files appear whole or not at all, and whatever is damaged
//! or gone is a miss.
//! The folder is the node's own, as its other caches are: what is damaged by accident is found
//! by its digest, but who may write there decides what models answer.
//!
//! - `key`: what decides a plan.
//! - `record`: a plan as bytes.
//! - `folder`: files that come and go within a bound.

mod folder;
mod key;
mod record;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use gw_shaders::kernel::{Caps, Kernel};

use super::Plan;
use crate::device::pages;
use crate::device::threads::on_all_cores;
use crate::graph::Digest;
use crate::lower::Constants;
use crate::model::Stage;
use folder::Folder;
pub(crate) use key::{Key, SOURCES};
use record::{Blob, Encoded, checksum};

/// The beginning of a plan's file; the last four bytes are the version of the form.
const MAGIC: &[u8; 12] = b"gw plan\n\x01\0\0\0";

/// No plan comes near: 47 steps of a text model take 130 KB, most of it the text of kernels.
const RECORD_BYTES_MAX: u64 = 16 << 20;

/// No adapter's measurements come near: a class of dispatches takes some 200 bytes.
const NOTE_BYTES_MAX: u64 = 4 << 20;

/// A folder of plans.
#[derive(Debug)]
pub struct PlanCache {
    folder: Folder,
}

/// A stage of planning, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stored {
    /// All that is left of a run.
    Whole(Plan),
    /// The part of a run whose one output decides the rest.
    Value(Plan),
    /// The input with this index decides the rest.
    Input(usize),
}

impl From<Stage> for Stored {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Whole(plan) => Self::Whole(plan),
            Stage::Value(plan, _) => Self::Value(plan),
            Stage::Input(index, _) => Self::Input(index),
        }
    }
}

impl Stored {
    /// The plan, where there is one.
    pub(crate) fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Whole(plan) | Self::Value(plan) => Some(plan),
            Self::Input(_) => None,
        }
    }
}

impl PlanCache {
    /// Plans in `dir`, which is made when the first one is kept. All files together take at most
    /// `bytes_max`, and while one is written, that much more per writer; the file that was used
    /// longest ago goes first.
    pub fn new(dir: impl Into<PathBuf>, bytes_max: u64) -> Self {
        Self { folder: Folder::new(dir.into(), bytes_max) }
    }

    /// Where the plans lie.
    pub fn dir(&self) -> &Path {
        self.folder.dir()
    }

    /// What was kept under `key`, sound and fit for `caps`; `None` where it must be made anew.
    /// `ahead` is told of the kernels before the weights are read.
    pub(crate) fn load(
        &self,
        key: &Key,
        constants: &Constants,
        caps: &Caps,
        ahead: &dyn Fn(&[Kernel]),
    ) -> Option<Stored> {
        let name = key.name();
        let file = self.folder.read(&name, RECORD_BYTES_MAX)?;
        let Some(body) = opened(&file, key) else {
            self.folder.remove(&name);
            return None;
        };
        let stored = record::decode(
            body,
            constants,
            ahead,
            |blobs| self.blobs(blobs),
            |blob| self.folder.touch(&blob.name()),
        )?;
        if let Some(plan) = stored.plan() {
            plan.verify().ok()?;
            plan.verify_for(caps).ok()?;
        }
        self.folder.touch(&name);
        Some(stored)
    }

    /// Keeps `stored` under `key`, unless it alone is larger than the bound.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub(crate) fn store(
        &self,
        key: &Key,
        stored: &Stored,
        constants: &Constants,
    ) -> io::Result<()> {
        let Some(Encoded { body, blobs }) = record::encode(stored, constants) else {
            return Ok(());
        };
        let file = closed(&body, key);
        let bytes = |blobs: &[&(Blob, Bytes)]| -> u64 {
            file.len() as u64 + blobs.iter().map(|(blob, _)| blob.bytes).sum::<u64>()
        };
        let all: Vec<&(Blob, Bytes)> = blobs.iter().filter(|(blob, _)| blob.bytes > 0).collect();
        if file.len() as u64 > RECORD_BYTES_MAX || bytes(&all) > self.folder.bytes_max() {
            return Ok(());
        }
        let is_new = |(blob, _): &&&(Blob, Bytes)| !self.folder.holds(&blob.name(), blob.bytes);
        let new: Vec<&(Blob, Bytes)> = all.iter().filter(is_new).copied().collect();
        self.folder.make_room(bytes(&new))?;
        // The plan comes last: it names only what is there.
        for (blob, data) in new {
            self.folder.write(&blob.name(), data)?;
        }
        self.folder.write(&key.name(), &file)
    }

    /// The file of this name about the variants of kernels.
    pub(crate) fn tuning(&self, name: &str) -> Option<Bytes> {
        self.note(&format!("{name}.tuning"))
    }

    /// Keeps a file about the variants of kernels, unless it is too large.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub(crate) fn keep_tuning(&self, name: &str, data: &[u8]) -> io::Result<()> {
        self.keep_note(&format!("{name}.tuning"), data)
    }

    /// What was kept of a trial of the model with this digest; `how` says what else it depends on
    /// than this engine.
    pub fn trial(&self, model: &Digest, how: &str) -> Option<Vec<u8>> {
        let key = Key::of_trial(model, how);
        let file = self.note(&trial_name(&key))?;
        opened(&file, &key).map(<[u8]>::to_vec)
    }

    /// Keeps what a trial has found.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn keep_trial(&self, model: &Digest, how: &str, data: &[u8]) -> io::Result<()> {
        let key = Key::of_trial(model, how);
        self.keep_note(&trial_name(&key), &closed(data, &key))
    }

    fn note(&self, name: &str) -> Option<Bytes> {
        let file = self.folder.read(name, NOTE_BYTES_MAX)?;
        self.folder.touch(name);
        Some(file)
    }

    fn keep_note(&self, name: &str, data: &[u8]) -> io::Result<()> {
        let bytes = data.len() as u64;
        if bytes > NOTE_BYTES_MAX || bytes > self.folder.bytes_max() {
            return Ok(());
        }
        self.folder.make_room(bytes)?;
        self.folder.write(name, data)
    }

    /// The bytes of files of weights; `None` where one is damaged or gone. They lie together, and
    /// several are read at once: reading and checking them takes much of a start.
    fn blobs(&self, blobs: &[Blob]) -> Option<Vec<Bytes>> {
        // Memory is taken only for what is there.
        let is_there = |blob: &Blob| blob.bytes == 0 || self.folder.holds(&blob.name(), blob.bytes);
        let mut end = 0usize;
        let mut ranges = Vec::new();
        for blob in blobs {
            let start = end;
            end = start.checked_add(usize::try_from(blob.bytes).ok()?)?;
            ranges.push(start..end);
            if !is_there(blob) {
                return None;
            }
        }
        let mut memory = pages::zeroed(end).ok()?;
        let mut rest = &mut memory[..];
        let places = blobs.iter().zip(&ranges).map(|(blob, range)| {
            let (place, behind) = std::mem::take(&mut rest).split_at_mut(range.len());
            rest = behind;
            (blob, Mutex::new(place))
        });
        let places: Vec<_> = places.collect();
        let read = on_all_cores(&places, |(blob, place)| {
            self.blob(blob, &mut place.lock().unwrap_or_else(PoisonError::into_inner))
        });
        read.into_iter().collect::<Option<()>>()?;
        drop(places);
        let memory = Bytes::from_owner(memory);
        Some(ranges.into_iter().map(|range| memory.slice(range)).collect())
    }

    /// Reads a file of weights to `place`; a damaged one is removed, so that it is written anew.
    fn blob(&self, blob: &Blob, place: &mut [u8]) -> Option<()> {
        if blob.bytes == 0 {
            return Some(());
        }
        let name = blob.name();
        self.folder.read_into(&name, place)?;
        if checksum(place) == blob.checksum {
            return Some(());
        }
        self.folder.remove(&name);
        None
    }
}

fn trial_name(key: &Key) -> String {
    format!("{}.trial", key.0)
}

/// The whole file: what it is, for which key, the plan or what else it holds, and a digest over all
/// of that.
fn closed(body: &[u8], key: &Key) -> Vec<u8> {
    let mut file = [MAGIC.as_slice(), &key.0.0, body].concat();
    let digest = Digest::of(&file);
    file.extend(digest.0);
    file
}

/// What [`closed`] was given, where not one bit is wrong.
fn opened<'a>(file: &'a [u8], key: &Key) -> Option<&'a [u8]> {
    let (rest, digest) = file.split_last_chunk::<{ Digest::BYTES }>()?;
    if Digest::of(rest).0 != *digest {
        return None;
    }
    rest.strip_prefix(MAGIC)?.strip_prefix(&key.0.0)
}

#[cfg(test)]
mod tests;
