//! The plugin's assets, which `gw.toml` lists: read-only files.
//!
//! What is made of them is best made once, when the plugin is built: every request then starts
//! with it in place.
//!
//! ```
//! use std::sync::LazyLock;
//! use gw_sdk::{assets, handler};
//!
//! static LABELS: LazyLock<Vec<String>> = LazyLock::new(|| {
//!     let text = assets::read_text("labels.txt").expect("gw.toml lists labels.txt");
//!     text.lines().map(str::to_owned).collect()
//! });
//!
//! fn prepare() {
//!     LazyLock::force(&LABELS);
//! }
//!
//! #[handler(init = prepare)]
//! fn first() -> &'static str {
//!     &LABELS[0]
//! }
//! ```

use crate::{Error, host};

/// The bytes of the asset of this name.
///
/// # Errors
/// 500 `asset_unreadable`, with the name: usually `gw.toml` does not list it.
pub fn read(name: &str) -> Result<Vec<u8>, Error> {
    host::asset(name).map_err(|error| unreadable(name, error))
}

/// The asset of this name, which is text in UTF-8.
///
/// # Errors
/// As [`read`], also where it is no text.
pub fn read_text(name: &str) -> Result<String, Error> {
    String::from_utf8(read(name)?).map_err(|error| unreadable(name, error))
}

fn unreadable(name: &str, error: impl std::fmt::Display) -> Error {
    let message = format!("asset {name:?} cannot be read: {error}; is it an [[asset]] in gw.toml?");
    Error::new(500, "asset_unreadable", message)
}
