//! One download that goes on where it stopped, in this process or an earlier one.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::http::{ATTEMPTS, Client, Failure, back_off};
use super::{FetchError, Progress, ShownUrl};
use crate::ByteSize;

/// A file, or a slice of one, at a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remote {
    pub(super) url: String,
    /// Where the wanted bytes start in the file.
    pub(super) start: u64,
    /// How many there are; `None` for all to the end.
    pub(super) length: Option<u64>,
}

impl Remote {
    /// The same without passwords and tokens, which have no place on a disk and may change between
    /// two attempts.
    fn without_secrets(&self) -> Self {
        Self { url: ShownUrl::from(self.url.as_str()).to_string(), ..self.clone() }
    }
}

/// What the `.part` file beside it holds. It is written before the first byte, and a part whose
/// description is missing or of something else is thrown away, so that files are never spliced.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
    /// Without secrets.
    remote: Remote,
    /// As the server named it; without a name nothing is continued.
    version: Option<String>,
}

/// A server that cuts every connection after a few bytes is given up in the end.
const CONNECTIONS_MAX: u32 = 1000;

pub(super) struct Partial {
    data: PathBuf,
    description: PathBuf,
}

impl Partial {
    pub(super) fn new(folder: &Path, key: &str) -> Self {
        let data = folder.join(format!("{key}.part"));
        Self { data, description: folder.join(format!("{key}.json")) }
    }

    /// Where the bytes lie.
    pub(super) fn path(&self) -> &Path {
        &self.data
    }

    /// Forgets what came so far.
    pub(super) fn remove(&self) {
        // The description goes first: without it the data is worth nothing.
        let _ = fs::remove_file(&self.description);
        let _ = fs::remove_file(&self.data);
    }

    /// Brings all bytes of `remote`, `limit` at most, those that are here already excepted.
    pub(super) fn complete(
        &self,
        client: &Client,
        remote: &Remote,
        limit: ByteSize,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<(), FetchError> {
        let (mut failed, mut connections) = (0, 0);
        let mut transfer = Transfer { partial: self, remote, limit, name, progress, begun: false };
        let mut before = 0;
        loop {
            let outcome = transfer.attempt(client);
            connections += 1;
            let here = fs::metadata(&self.data).map_or(0, |metadata| metadata.len());
            match outcome {
                Ok(()) => break,
                Err(Failure::Final(error)) => return Err(transfer.ended(error)),
                Err(Failure::Transient(cause)) => {
                    // A connection that brings something is not a failing one.
                    failed = if here > before { 1 } else { failed + 1 };
                    before = here;
                    if failed == ATTEMPTS || connections == CONNECTIONS_MAX {
                        let url = remote.url.as_str().into();
                        return Err(transfer.ended(FetchError::Network { url, cause }));
                    }
                    back_off(failed);
                }
            }
        }
        transfer.progress.end();
        Ok(())
    }

    fn described(&self) -> Option<Description> {
        serde_json::from_slice(&fs::read(&self.description).ok()?).ok()
    }

    /// Starts anew, and writes down what will be here.
    fn describe(&self, description: &Description) -> Result<(), FetchError> {
        self.remove();
        let text = serde_json::to_vec(description).expect("texts and numbers are JSON");
        fs::write(&self.description, text).map_err(FetchError::file(&self.description))
    }
}

struct Transfer<'a> {
    partial: &'a Partial,
    remote: &'a Remote,
    limit: ByteSize,
    name: &'a str,
    progress: &'a dyn Progress,
    begun: bool,
}

impl Transfer<'_> {
    fn attempt(&mut self, client: &Client) -> Result<(), Failure> {
        let Remote { url, start, length } = self.remote;
        let remote = self.remote.without_secrets();
        let described = self.partial.described().filter(|known| known.remote == remote);
        let here = match &described {
            Some(_) => fs::metadata(&self.partial.data).map_or(0, |metadata| metadata.len()),
            None => 0,
        };
        if length.is_some_and(|length| here == length) {
            self.begin(*length, here);
            // Of an empty file nothing would ever come.
            return self.receive(std::io::empty(), here).map(drop);
        }
        let end = length.map(|length| start + length);
        let part = match client.part(url, start + here, end) {
            // What is here is at least the whole file: perhaps another one.
            Err(Failure::Final(FetchError::Status { status: 416, .. })) if here > 0 => {
                self.partial.remove();
                return Err(Failure::Transient("the file changed".to_owned()));
            }
            part => part?,
        };
        let same =
            part.version.is_some() && described.is_some_and(|known| known.version == part.version);
        let wanted = if same && part.start == start + here { here } else { 0 };
        if wanted == 0 {
            let description = Description { remote, version: part.version.clone() };
            self.partial.describe(&description).map_err(Failure::Final)?;
            if here > 0 && part.start != *start {
                return Err(Failure::Transient("the file changed".to_owned()));
            }
        }
        if length.is_some() && part.start != start + wanted {
            return Err(Failure::Transient("the server stopped to serve ranges".to_owned()));
        }
        let total = length.or(part.total.map(|total| total.saturating_sub(*start)));
        if total.is_some_and(|total| total > self.limit.0) {
            return Err(self.too_large());
        }
        self.begin(total, wanted);
        // Without a length, one byte more than allowed tells that there are more.
        let most = total.unwrap_or(self.limit.0.saturating_add(1)).saturating_sub(wanted);
        let body = part.body.into_with_config().limit(u64::MAX).reader();
        let here = wanted + self.receive(body.take(most), wanted)?;
        match total {
            Some(total) if here < total => {
                Err(Failure::Transient("the connection ended early".to_owned()))
            }
            None if here > self.limit.0 => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    fn too_large(&self) -> Failure {
        let (url, limit) = (self.remote.url.as_str().into(), self.limit);
        Failure::Final(FetchError::TooLarge { url, what: "the file", limit })
    }

    /// Appends `body` behind the first `here` bytes of the part.
    fn receive(&self, mut body: impl Read, here: u64) -> Result<u64, Failure> {
        let path = &self.partial.data;
        let local = |error| Failure::Final(FetchError::file(path)(error));
        let mut options = OpenOptions::new();
        let mut file: File =
            options.write(true).create(true).truncate(false).open(path).map_err(local)?;
        file.set_len(here).map_err(local)?;
        file.seek(SeekFrom::Start(here)).map_err(local)?;
        let mut buffer = vec![0; 64 << 10];
        let mut received = 0;
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => return Ok(received),
                Ok(read) => read,
                Err(error) => return Err(Failure::Transient(error.to_string())),
            };
            file.write_all(&buffer[..read]).map_err(local)?;
            received += read as u64;
            self.progress.advance(read as u64);
        }
    }

    fn begin(&mut self, total: Option<u64>, done: u64) {
        if self.begun {
            self.progress.end();
        }
        self.begun = true;
        self.progress.begin(self.name, total, done);
    }

    fn ended(&self, error: FetchError) -> FetchError {
        if self.begun {
            self.progress.end();
        }
        error
    }
}
