//! Bundles: one signed file with everything that a revision is made of, but large models.
//!
//! ```text
//! "GWB1" | header length, u32 LE | header, JSON: digest, key, signature | payload, tar
//! ```
//!
//! The digest is the payload's SHA-256 and names the revision; the signature is Ed25519 over
//! [`SIGNED_PREFIX`] and the digest. Nothing of the payload is parsed before both are verified.

mod archive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::keys::{PublicKey, SigningKey};
use crate::manifest::{Manifest, ManifestError};

const MAGIC: &[u8; 4] = b"GWB1";
/// Keeps a signature of a bundle from being one of anything else.
const SIGNED_PREFIX: &[u8] = b"gw bundle v1\0";
/// A header holds three short fields.
const HEADER_BYTES_MAX: usize = 4096;

/// What goes into a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundleContent {
    /// The text of `gw.toml`.
    pub manifest_text: String,
    /// Components by plugin name.
    pub plugins: Vec<(String, Bytes)>,
    /// Files by their name under `/assets`.
    pub assets: Vec<(String, Bytes)>,
    /// Every model of the manifest.
    pub models: Vec<BundledModel>,
}

/// A model as a bundle names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundledModel {
    /// Its name in the manifest.
    pub name: String,
    /// The digest of its file, as it was when the bundle was made.
    pub digest: Digest,
    /// The file, where its source is a path; a node fetches the others itself.
    pub bytes: Option<Bytes>,
}

/// A bundle whose signature, digest and manifest have been checked.
#[derive(Clone, Debug)]
pub struct VerifiedBundle {
    /// The digest of the payload: the revision's name.
    pub digest: Digest,
    /// Who signed it: one of the trusted keys.
    pub signer: PublicKey,
    /// The manifest, parsed.
    pub manifest: Manifest,
    /// Everything else.
    pub content: BundleContent,
}

/// Why a bundle was refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The bytes are something else.
    #[error("not a gw bundle: {reason}")]
    NotABundle {
        /// What is wrong with them.
        reason: String,
    },
    /// There is no signature.
    #[error("the bundle is not signed; `gw push` signs with --key")]
    Unsigned,
    /// The signer is unknown here.
    #[error("the key {key} is not trusted by this node; add it with --trust or to trusted-keys")]
    UntrustedKey {
        /// The key that the bundle names.
        key: PublicKey,
    },
    /// The signature is not the key's, or the content was changed after it was signed.
    #[error("the signature does not match: the bundle was changed after it was signed")]
    BadSignature,
    /// What was signed is not well formed.
    #[error("the bundle is corrupt: {what}")]
    Corrupt {
        /// What is wrong.
        what: String,
    },
    /// The manifest has mistakes.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    digest: Digest,
    key: PublicKey,
    #[serde(default)]
    signature: String,
}

/// Packs and signs `content`. Equal content gives equal bytes.
///
/// # Errors
/// [`BundleError::Corrupt`] where a name cannot be part of a bundle.
pub fn pack(content: &BundleContent, key: &SigningKey) -> Result<Bytes, BundleError> {
    let payload = archive::write(content)?;
    let digest = Digest::of(&payload);
    let signature = BASE64.encode(key.sign(&signed(&digest)));
    let header = Header { digest, key: key.public(), signature };
    let header = serde_json::to_vec(&header).expect("three texts are JSON");
    let mut bundle = Vec::with_capacity(8 + header.len() + payload.len());
    bundle.extend_from_slice(MAGIC);
    bundle.extend_from_slice(&u32::try_from(header.len()).expect("a short header").to_le_bytes());
    bundle.extend_from_slice(&header);
    bundle.extend_from_slice(&payload);
    Ok(bundle.into())
}

/// Checks a bundle against the `trusted` keys and takes it apart.
///
/// # Errors
/// Any [`BundleError`]; nothing of the payload is parsed before its signature is verified.
pub fn verify(bundle: &Bytes, trusted: &[PublicKey]) -> Result<VerifiedBundle, BundleError> {
    let not_a_bundle = |reason: &str| BundleError::NotABundle { reason: reason.to_owned() };
    let rest = bundle.strip_prefix(MAGIC).ok_or_else(|| not_a_bundle("it does not start so"))?;
    let (length, rest) =
        rest.split_first_chunk::<4>().ok_or_else(|| not_a_bundle("it ends in its header"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > HEADER_BYTES_MAX || length > rest.len() {
        return Err(not_a_bundle("it ends in its header"));
    }
    let header: Header = serde_json::from_slice(&rest[..length])
        .map_err(|error| not_a_bundle(&format!("its header is unreadable: {error}")))?;
    let payload = bundle.slice(MAGIC.len() + 4 + length..);
    if header.signature.is_empty() {
        return Err(BundleError::Unsigned);
    }
    if !trusted.contains(&header.key) {
        return Err(BundleError::UntrustedKey { key: header.key });
    }
    let signature = BASE64.decode(&header.signature).map_err(|_| BundleError::BadSignature)?;
    let digest = Digest::of(&payload);
    if digest != header.digest || !header.key.verifies(&signed(&digest), &signature) {
        return Err(BundleError::BadSignature);
    }
    let content = archive::read(&payload)?;
    let manifest = Manifest::parse(&content.manifest_text, "gw.toml")?;
    Ok(VerifiedBundle { digest, signer: header.key, manifest, content })
}

fn signed(digest: &Digest) -> Vec<u8> {
    [SIGNED_PREFIX, digest.as_bytes()].concat()
}

#[cfg(test)]
mod tests;
