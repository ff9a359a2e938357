//! The models that guests have loaded from bytes: found again by digest, bounded for the node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use gw_artifact::Digest;
use gw_inference::{DeviceChoice, Model, Models};
use tokio::sync::{Mutex as Turn, OwnedSemaphorePermit, Semaphore};

use super::error::{ErrorCode, NnError};
use super::load::load_error;
use crate::{HostConfig, LoadGrant};

/// What errors and metrics call such a model. No manifest can name one so.
const NAME: &str = "(bytes)";

/// The unit in which room is given: a permit counts in 32 bits.
const ROOM_BYTES: usize = 1 << 10;

/// Loading from bytes as one plugin may do it. Without a grant there is none, so nothing that
/// others have loaded can be reached either.
#[derive(Clone)]
pub(crate) struct Loading {
    pub(crate) grant: LoadGrant,
    pub(crate) loaded: Arc<LoadedModels>,
}

/// Room for the bytes of one model while it is loaded.
pub(crate) struct Room {
    _permit: OwnedSemaphorePermit,
}

/// The models of a node that came as bytes. Whoever has a grant and brings the same bytes for the
/// same device shares one; what was used longest ago goes first.
pub(crate) struct LoadedModels {
    models_max: usize,
    bytes_max: usize,
    /// Bounds the copies of models that wait to be loaded.
    room: Arc<Semaphore>,
    /// One model is loaded at a time: that takes all cores and the memory of several copies.
    turn: Arc<Turn<()>>,
    shelf: Mutex<Shelf>,
}

/// A digest, and where it runs.
type Key = (Digest, DeviceChoice);

#[derive(Default)]
struct Shelf {
    models: HashMap<Key, Shelved>,
    /// Counts uses, to tell what was used longest ago.
    clock: u64,
}

struct Shelved {
    model: Arc<Model>,
    bytes: usize,
    used: u64,
}

impl LoadedModels {
    pub(crate) fn new(config: &HostConfig) -> Arc<Self> {
        let bytes_max = config.loaded_model_bytes_max;
        Arc::new(Self {
            models_max: config.loaded_models_max,
            bytes_max,
            room: Arc::new(Semaphore::new(bytes_max.div_ceil(ROOM_BYTES))),
            turn: Arc::default(),
            shelf: Mutex::default(),
        })
    }

    /// Waits until a model of `bytes` bytes may be copied.
    pub(super) async fn enter(&self, bytes: usize) -> Room {
        let all = self.bytes_max.div_ceil(ROOM_BYTES);
        let units = u32::try_from(bytes.div_ceil(ROOM_BYTES).min(all)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.room).acquire_many_owned(units).await;
        Room { _permit: permit.expect("the semaphore is never closed") }
    }

    /// The model of these bytes on this device. Dropping the future leaves a load that has begun
    /// to end by itself.
    pub(super) async fn find_or_load(
        self: Arc<Self>,
        models: Arc<Models>,
        bytes: Bytes,
        device: DeviceChoice,
        room: Room,
    ) -> Result<Arc<Model>, NnError> {
        let hashed = bytes.clone();
        let digest = aside(move || Ok(Digest::of(&hashed))).await?;
        let key = (digest, device);
        if let Some(model) = self.find(&key) {
            return Ok(model);
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        // Perhaps the one before brought the same.
        if let Some(model) = self.find(&key) {
            return Ok(model);
        }
        aside(move || {
            let _held = (turn, room);
            self.make_room(bytes.len())?;
            let loaded = models.load_bytes(NAME, &bytes, key.0, &key.1).map_err(load_error)?;
            self.shelf().put(key, &loaded, bytes.len());
            Ok(loaded)
        })
        .await
    }

    fn find(&self, key: &Key) -> Option<Arc<Model>> {
        self.shelf().find(key)
    }

    /// Drops models that nobody uses until one of `bytes` bytes has its place.
    fn make_room(&self, bytes: usize) -> Result<(), NnError> {
        let mut shelf = self.shelf();
        if bytes > self.bytes_max || self.models_max == 0 {
            let reason = format!(
                "a model of {bytes} bytes; this node takes {} models of {} bytes in all",
                self.models_max, self.bytes_max
            );
            return Err(NnError::new(ErrorCode::TooLarge, reason));
        }
        while shelf.models.len() >= self.models_max || shelf.bytes() + bytes > self.bytes_max {
            if !shelf.drop_oldest() {
                let reason = format!(
                    "the {} models that guests have loaded here are all in use; try again later",
                    shelf.models.len()
                );
                return Err(NnError::new(ErrorCode::RuntimeError, reason));
            }
        }
        Ok(())
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Every critical section leaves the shelf whole, so a poisoned lock is still good.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn find(&mut self, key: &Key) -> Option<Arc<Model>> {
        self.clock += 1;
        let shelved = self.models.get_mut(key)?;
        shelved.used = self.clock;
        Some(Arc::clone(&shelved.model))
    }

    fn put(&mut self, key: Key, model: &Arc<Model>, bytes: usize) {
        self.clock += 1;
        let shelved = Shelved { model: Arc::clone(model), bytes, used: self.clock };
        self.models.insert(key, shelved);
    }

    fn bytes(&self) -> usize {
        self.models.values().map(|shelved| shelved.bytes).sum()
    }

    /// Drops the model that was used longest ago of those that only the shelf holds. Nobody can
    /// take one meanwhile: they are handed out under this lock.
    fn drop_oldest(&mut self) -> bool {
        let idle = |(_, shelved): &(&Key, &Shelved)| Arc::strong_count(&shelved.model) == 1;
        let oldest = self.models.iter().filter(idle).min_by_key(|(_, shelved)| shelved.used);
        let Some(key) = oldest.map(|(key, _)| key.clone()) else { return false };
        self.models.remove(&key);
        true
    }
}

/// Runs `work` on a thread that may block.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NnError> + Send + 'static,
) -> Result<T, NnError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(NnError::new(ErrorCode::Unknown, format!("loading the model ended early: {error}")))
    })
}
