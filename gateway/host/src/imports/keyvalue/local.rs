//! Buckets in one file on this node's disk.
//!
//! Readers look at the last commit and wait for nobody. One thread writes: it takes all that waits,
//! and one commit, which is on the disk when it returns, answers all of it. A file that was open
//! when the node was killed shows the last commit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use gw_artifact::disk::create_private;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError,
    WriteTransaction,
};
use tokio::sync::{mpsc, oneshot};

use super::{Bucket, Fault, bucket_full, within};
use crate::HostError;

const FILE_NAME: &str = "buckets.redb";
/// What the store keeps in memory of its file, which the system caches too.
const CACHE_BYTES: usize = 16 << 20;
/// Writes that may wait for the writer; one more waits to be accepted.
const WAITING_MAX: usize = 256;

/// App, bucket and key.
type Place = (&'static str, &'static str, &'static str);

/// Every pair: the number under which its key is listed, and its value.
const VALUES: TableDefinition<'_, Place, (u64, &[u8])> = TableDefinition::new("values");
/// App, bucket and number of every key. Numbers only grow, so a page that continues behind one
/// misses no key that was there all the time.
const NUMBERS: TableDefinition<'_, (&str, &str, u64), &str> = TableDefinition::new("numbers");
/// App and bucket: the bytes of all its keys and values, and the number of the next key.
const USED: TableDefinition<'_, (&str, &str), (u64, u64)> = TableDefinition::new("used");

/// The open file.
pub(super) struct LocalStore {
    database: Arc<Database>,
    /// Taken when the store is dropped, which ends the writer.
    writes: Option<mpsc::Sender<Write>>,
    writer: Option<JoinHandle<()>>,
}

/// What waits for the writer.
struct Write {
    bucket: Bucket,
    change: Change,
    done: oneshot::Sender<Result<u64, Fault>>,
}

enum Change {
    Set { pairs: BTreeMap<String, Vec<u8>>, bytes_max: u64 },
    Delete { keys: Vec<String> },
    Increment { key: String, delta: u64, bytes_max: u64 },
}

impl LocalStore {
    /// Opens or makes the file in `dir`.
    ///
    /// # Errors
    /// [`HostError::Keyvalue`], another process that has it open for one.
    pub(super) fn open(dir: Option<&Path>) -> Result<Self, HostError> {
        let refused = |reason: String| HostError::Keyvalue { reason };
        let dir = dir.ok_or_else(|| {
            refused("no folder is named for it; set `dir` in [plugins.keyvalue]".to_owned())
        })?;
        create_private(dir).map_err(|error| refused(format!("{}: {error}", dir.display())))?;
        let path = dir.join(FILE_NAME);
        let opened = Database::builder().set_cache_size(CACHE_BYTES).create(&path);
        let database = opened.map_err(|error| {
            let shown = path.display();
            refused(match error {
                DatabaseError::DatabaseAlreadyOpen => format!(
                    "{shown} is open in another process; stop it, or name another `dir` in \
                     [plugins.keyvalue]"
                ),
                error => format!("{shown}: {error}"),
            })
        })?;
        make_tables(&database).map_err(|error| refused(format!("{}: {error}", path.display())))?;
        let database = Arc::new(database);
        let (writes, waiting) = mpsc::channel(WAITING_MAX);
        let writer = {
            let database = Arc::clone(&database);
            std::thread::Builder::new()
                .name("gw-keyvalue".to_owned())
                .spawn(move || write_all(&database, waiting))
                .map_err(|error| refused(error.to_string()))?
        };
        Ok(Self { database, writes: Some(writes), writer: Some(writer) })
    }

    pub(super) async fn read(
        &self,
        bucket: &Bucket,
        keys: Vec<String>,
        bytes_max: usize,
    ) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let bucket = bucket.clone();
        self.look(move |database| {
            let values = database.begin_read()?.open_table(VALUES)?;
            let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), 0);
            for key in &keys {
                let value = values.get((&*bucket.app, &*bucket.name, key.as_str()))?;
                let value = value.map(|value| value.value().1.to_vec());
                bytes += value.as_ref().map_or(0, Vec::len);
                if let Err(refused) =
                    within(bytes, bytes_max, "batch_bytes_max", || "the batch".to_owned())
                {
                    return Ok(Err(refused));
                }
                found.push(value);
            }
            Ok(Ok(found))
        })
        .await
    }

    pub(super) async fn exists(&self, bucket: &Bucket, key: String) -> Result<bool, Fault> {
        let bucket = bucket.clone();
        self.look(move |database| {
            let values = database.begin_read()?.open_table(VALUES)?;
            Ok(Ok(values.get((&*bucket.app, &*bucket.name, key.as_str()))?.is_some()))
        })
        .await
    }

    /// The keys in the order in which they came to be.
    pub(super) async fn list(
        &self,
        bucket: &Bucket,
        cursor: Option<u64>,
        keys_max: usize,
    ) -> Result<(Vec<String>, Option<u64>), Fault> {
        let bucket = bucket.clone();
        let Some(first) = cursor.map_or(Some(0), |last| last.checked_add(1)) else {
            return Ok((Vec::new(), None));
        };
        self.look(move |database| {
            let numbers = database.begin_read()?.open_table(NUMBERS)?;
            let place = |number| (&*bucket.app, &*bucket.name, number);
            let mut range = numbers.range(place(first)..=place(u64::MAX))?;
            let (mut keys, mut last) = (Vec::new(), None);
            for entry in range.by_ref().take(keys_max) {
                let (place, key) = entry?;
                keys.push(key.value().to_owned());
                last = Some(place.value().2);
            }
            let more = range.next().transpose()?.is_some();
            Ok(Ok((keys, last.filter(|_| more))))
        })
        .await
    }

    pub(super) async fn write(
        &self,
        bucket: &Bucket,
        pairs: BTreeMap<String, Vec<u8>>,
        bytes_max: u64,
    ) -> Result<(), Fault> {
        self.change(bucket, Change::Set { pairs, bytes_max }).await.map(drop)
    }

    pub(super) async fn delete(&self, bucket: &Bucket, keys: Vec<String>) -> Result<(), Fault> {
        self.change(bucket, Change::Delete { keys }).await.map(drop)
    }

    pub(super) async fn increment(
        &self,
        bucket: &Bucket,
        key: String,
        delta: u64,
        bytes_max: u64,
    ) -> Result<u64, Fault> {
        self.change(bucket, Change::Increment { key, delta, bytes_max }).await
    }

    /// Reads on a thread that may wait for the disk.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Database) -> Result<Result<T, Fault>, redb::Error> + Send + 'static,
    ) -> Result<T, Fault> {
        let database = Arc::clone(&self.database);
        let looked = tokio::task::spawn_blocking(move || look(&database)).await;
        looked
            .map_err(|error| Fault::Failed(error.to_string()))?
            .map_err(|error| Fault::Failed(error.to_string()))?
    }

    async fn change(&self, bucket: &Bucket, change: Change) -> Result<u64, Fault> {
        let (done, changed) = oneshot::channel();
        let write = Write { bucket: bucket.clone(), change, done };
        let ended = || Fault::Failed("its writer has ended".to_owned());
        let writes = self.writes.as_ref().ok_or_else(ended)?;
        writes.send(write).await.map_err(|_| ended())?;
        changed.await.map_err(|_| ended())?
    }
}

impl Drop for LocalStore {
    /// Waits until what was accepted is on the disk.
    fn drop(&mut self) {
        drop(self.writes.take());
        if let Some(writer) = self.writer.take() {
            // Whoever waited for a writer that panicked was told.
            let _ = writer.join();
        }
    }
}

fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    Tables::open(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// The writer: until nobody can ask any more.
fn write_all(database: &Database, mut waiting: mpsc::Receiver<Write>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut writes = vec![first];
        while let Ok(write) = waiting.try_recv() {
            writes.push(write);
        }
        let changes = writes.iter().map(|write| (&write.bucket, &write.change));
        match commit(database, changes) {
            Ok(results) => {
                for (write, result) in writes.into_iter().zip(results) {
                    // Whoever does not wait any more needs no answer.
                    let _ = write.done.send(result);
                }
            }
            Err(error) => {
                for write in writes {
                    let _ = write.done.send(Err(Fault::Failed(error.to_string())));
                }
            }
        }
    }
}

/// Makes changes in one transaction. A change that is refused changes nothing.
fn commit<'c>(
    database: &Database,
    changes: impl Iterator<Item = (&'c Bucket, &'c Change)>,
) -> Result<Vec<Result<u64, Fault>>, redb::Error> {
    let transaction = database.begin_write()?;
    let mut results = Vec::new();
    {
        let mut tables = Tables::open(&transaction)?;
        for (bucket, change) in changes {
            results.push(match change {
                Change::Set { pairs, bytes_max } => {
                    let pairs: Vec<_> =
                        pairs.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
                    tables.set(bucket, &pairs, *bytes_max)?.map(|()| 0)
                }
                Change::Delete { keys } => tables.delete(bucket, keys).map(|()| Ok(0))?,
                Change::Increment { key, delta, bytes_max } => {
                    tables.increment(bucket, key, *delta, *bytes_max)?
                }
            });
        }
    }
    transaction.commit()?;
    Ok(results)
}

/// The tables of one transaction.
struct Tables<'t> {
    values: Table<'t, Place, (u64, &'static [u8])>,
    numbers: Table<'t, (&'static str, &'static str, u64), &'static str>,
    used: Table<'t, (&'static str, &'static str), (u64, u64)>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            values: transaction.open_table(VALUES)?,
            numbers: transaction.open_table(NUMBERS)?,
            used: transaction.open_table(USED)?,
        })
    }

    /// The bytes of a bucket and the number of its next key.
    fn used(&self, bucket: &Bucket) -> Result<(u64, u64), redb::Error> {
        let used = self.used.get((&*bucket.app, &*bucket.name))?;
        Ok(used.map_or((0, 0), |used| used.value()))
    }

    /// The number of a key and the bytes of its value.
    fn old(&self, bucket: &Bucket, key: &str) -> Result<Option<(u64, usize)>, redb::Error> {
        let old = self.values.get((&*bucket.app, &*bucket.name, key))?;
        Ok(old.map(|old| (old.value().0, old.value().1.len())))
    }

    fn set(
        &mut self,
        bucket: &Bucket,
        pairs: &[(&str, &[u8])],
        bytes_max: u64,
    ) -> Result<Result<(), Fault>, redb::Error> {
        let (mut bytes, mut next) = self.used(bucket)?;
        for (key, value) in pairs {
            let old = self.old(bucket, key)?.map_or(0, |(_, length)| size(key, length));
            bytes = (bytes - old).saturating_add(size(key, value.len()));
        }
        if bytes > bytes_max {
            return Ok(Err(bucket_full(&bucket.name, bytes, bytes_max)));
        }
        let (app, name) = (&*bucket.app, &*bucket.name);
        for (key, value) in pairs {
            let number = match self.old(bucket, key)? {
                Some((number, _)) => number,
                None => {
                    self.numbers.insert((app, name, next), key)?;
                    next += 1;
                    next - 1
                }
            };
            self.values.insert((app, name, *key), (number, *value))?;
        }
        self.used.insert((app, name), (bytes, next))?;
        Ok(Ok(()))
    }

    fn delete(&mut self, bucket: &Bucket, keys: &[String]) -> Result<(), redb::Error> {
        let (mut bytes, next) = self.used(bucket)?;
        let (app, name) = (&*bucket.app, &*bucket.name);
        for key in keys {
            if let Some((number, length)) = self.old(bucket, key)? {
                bytes -= size(key, length);
                self.values.remove((app, name, key.as_str()))?;
                self.numbers.remove((app, name, number))?;
            }
        }
        self.used.insert((app, name), (bytes, next))?;
        Ok(())
    }

    fn increment(
        &mut self,
        bucket: &Bucket,
        key: &str,
        delta: u64,
        bytes_max: u64,
    ) -> Result<Result<u64, Fault>, redb::Error> {
        let counted = {
            let old = self.values.get((&*bucket.app, &*bucket.name, key))?;
            old.map_or(Some(0), |old| {
                std::str::from_utf8(old.value().1).ok().and_then(|text| text.parse::<u64>().ok())
            })
        };
        let refused = |what: &str| Fault::Refused(format!("the value of {key:?} {what}"));
        let Some(counted) = counted else {
            return Ok(Err(refused("is no counter: a whole number as decimal text")));
        };
        let Some(sum) = counted.checked_add(delta) else {
            return Ok(Err(refused("would not fit 64 bits")));
        };
        let written = self.set(bucket, &[(key, sum.to_string().as_bytes())], bytes_max)?;
        Ok(written.map(|()| sum))
    }
}

/// What a pair counts for in its bucket.
fn size(key: &str, value_bytes: usize) -> u64 {
    (key.len() + value_bytes) as u64
}
