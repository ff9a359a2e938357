//! The values of `config` in `gw.toml` and the secrets that `secrets` names.
//!
//! ```
//! use gw_sdk::testing::Host;
//! use gw_sdk::{Error, config};
//!
//! fn limit() -> Result<u32, Error> {
//!     config::parse("limit", 10)
//! }
//!
//! assert_eq!(Host::new().config("limit", "3").run(limit), Ok(3));
//! assert_eq!(Host::new().run(limit), Ok(10));
//! ```

use std::fmt::Display;
use std::str::FromStr;

use crate::host;

pub use crate::bindings::wasi::config::store::Error;

/// The value or the secret of this name, if there is one.
///
/// # Errors
/// Where the plugin is granted no value and no secret at all, and whatever the host reports.
pub fn get(key: &str) -> Result<Option<String>, Error> {
    host::config(key)
}

/// All values, and no secrets.
///
/// # Errors
/// Whatever the host reports.
pub fn get_all() -> Result<Vec<(String, String)>, Error> {
    host::config_all()
}

/// The value of this name as a number or whatever else is written as text, or the default where
/// there is none, also in a plugin that is granted none.
///
/// # Errors
/// 500 `wrong_config` where the value cannot be read.
pub fn parse<T: FromStr<Err: Display>>(key: &str, default: T) -> Result<T, crate::Error> {
    match get(key) {
        // A node refuses only a plugin that is granted nothing, which has no value.
        Ok(None) | Err(_) => Ok(default),
        Ok(Some(text)) => text.parse().map_err(|error| {
            let message = format!("`{key}` in gw.toml's config is {text:?}: {error}");
            crate::Error::new(500, "wrong_config", message)
        }),
    }
}

impl From<Error> for crate::Error {
    #[track_caller]
    fn from(error: Error) -> Self {
        let (Error::Upstream(message) | Error::Io(message)) = error;
        Self::new(503, "config_unavailable", message)
    }
}
