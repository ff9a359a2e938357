//! The buckets that `keyvalue` in `gw.toml` names: [`open`] one, then read and write.
//!
//! ```
//! use gw_sdk::testing::Host;
//! use gw_sdk::{Error, keyvalue};
//!
//! fn count() -> Result<u64, Error> {
//!     Ok(keyvalue::open("visits")?.increment("total", 1)?)
//! }
//!
//! let host = Host::new().bucket("visits", [("total", "41")]);
//! assert_eq!(host.run(count), Ok(42));
//! assert_eq!(host.value("visits", "total").as_deref(), Some(&b"42"[..]));
//! ```

use crate::host;

pub use crate::bindings::wasi::keyvalue::store::{Error, KeyResponse};

/// A key with its value.
pub type Pair = (String, Vec<u8>);

/// Opens a bucket that is granted to this plugin.
///
/// # Errors
/// Where it is not granted: the error says how it is.
pub fn open(name: &str) -> Result<Bucket, Error> {
    Ok(Bucket(host::Bucket::open(name)?))
}

/// Keys with values. A value is kept when the call that writes it returns.
pub struct Bucket(host::Bucket);

impl Bucket {
    /// The value of a key, if it has one.
    ///
    /// # Errors
    /// Whatever the host reports, as every method here.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key)
    }

    /// Gives a key this value, in place of any it has.
    ///
    /// # Errors
    /// Where it would not fit the bucket, and whatever the host reports.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.0.set(key, value)
    }

    /// Removes a key, if it is there.
    ///
    /// # Errors
    /// Whatever the host reports.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.0.delete(key)
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// Whatever the host reports.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.0.exists(key)
    }

    /// A page of keys, in no particular order, and where the next one begins.
    ///
    /// # Errors
    /// Whatever the host reports.
    pub fn list_keys(&self, cursor: Option<u64>) -> Result<KeyResponse, Error> {
        self.0.list_keys(cursor)
    }

    /// Adds to a counter, which is a number in decimal digits, and gives the sum. Nobody else's
    /// addition is lost. A key without a value counts as 0.
    ///
    /// # Errors
    /// Where the value is no counter, and whatever the host reports.
    pub fn increment(&self, key: &str, delta: u64) -> Result<u64, Error> {
        self.0.increment(key, delta)
    }

    /// The pairs of several keys, in the keys' order.
    ///
    /// # Errors
    /// Whatever the host reports.
    pub fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Pair>>, Error> {
        self.0.get_many(keys)
    }

    /// Sets several pairs; where it fails, some may be set.
    ///
    /// # Errors
    /// As [`Bucket::set`].
    pub fn set_many(&self, pairs: &[Pair]) -> Result<(), Error> {
        self.0.set_many(pairs)
    }

    /// Removes several keys; where it fails, some may be removed.
    ///
    /// # Errors
    /// Whatever the host reports.
    pub fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        self.0.delete_many(keys)
    }
}

impl From<Error> for crate::Error {
    #[track_caller]
    fn from(error: Error) -> Self {
        let (status, code, message) = match error {
            Error::NoSuchStore | Error::AccessDenied => {
                let message = "the bucket is not one that gw.toml grants this plugin: list it \
                               in the plugin's `keyvalue`";
                (500, "bucket_not_granted", message.to_owned())
            }
            Error::Other(message) => (503, "bucket_failed", message),
        };
        Self::new(status, code, message)
    }
}
