//! What `gw.toml` grants besides models and hosts: files, values, buckets; and the log.

pub mod assets;
pub mod config;
pub mod keyvalue;
pub mod logging;

#[cfg(test)]
mod tests;
