//! Why a file could not be fetched.

use std::io;
use std::path::PathBuf;

use super::{FETCH_BYTES_MAX, ShownUrl};
use crate::{ByteSize, Digest};

/// Why a file could not be fetched. Each says which, why, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server cannot be reached, or stopped answering.
    #[error("{url} cannot be fetched: {cause}; check the network, what came so far is kept")]
    Network {
        /// The URL.
        url: ShownUrl,
        /// What happened, after all attempts.
        cause: String,
    },
    /// The server refuses.
    #[error("{url} answers {status}: {help}")]
    Status {
        /// The URL.
        url: ShownUrl,
        /// The HTTP status.
        status: u16,
        /// What to do about it.
        help: &'static str,
    },
    /// The package or its version is not in the index.
    #[error("{package}=={version} is not in the index {index}; it has: {known}")]
    Version {
        /// The package.
        package: String,
        /// The version that was asked for.
        version: String,
        /// The index.
        index: ShownUrl,
        /// Versions that there are.
        known: String,
    },
    /// The package has no such file.
    #[error("{archive} holds no file {member}; it has: {known}")]
    Member {
        /// The file name of the package.
        archive: String,
        /// The file that was asked for.
        member: String,
        /// Files of a similar name.
        known: String,
    },
    /// What the server sent cannot be understood.
    #[error("{url}: {cause}")]
    Malformed {
        /// The URL.
        url: ShownUrl,
        /// What is wrong.
        cause: String,
    },
    /// The file is not the one that was asked for.
    #[error(
        "{name} has another sha256 than expected: {expected} expected, {given} given; \
         correct sha256 in gw.toml, or the source {origin}"
    )]
    Digest {
        /// What the manifest calls the file.
        name: String,
        /// Where it came from.
        origin: ShownUrl,
        /// What was asked for.
        expected: Digest,
        /// What came.
        given: Digest,
    },
    /// There is more than is taken: a mistake, or somebody's attempt to fill the disk.
    #[error(
        "{url}: {what} is larger than {limit}, the most that is fetched; \
         if it is meant to be, set {FETCH_BYTES_MAX} to more"
    )]
    TooLarge {
        /// The URL.
        url: ShownUrl,
        /// The file itself, or what it unpacks to.
        what: &'static str,
        /// The most that is taken.
        limit: ByteSize,
    },
    /// A file on this machine cannot be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl FetchError {
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { path, cause }
    }
}
