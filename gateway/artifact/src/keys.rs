//! Ed25519 keys: who may deploy.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a key could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is no public key.
    #[error("`{0}` is not a public key: expected ed25519: and 44 characters of base64")]
    PublicKey(String),
    /// The file holds no private key.
    #[error("not an Ed25519 private key in PEM form; `gw keys new` makes one")]
    PrivateKey,
    /// The system gives no random numbers.
    #[error("the system gives no random bytes")]
    Random,
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The public half of a key; its text is `ed25519:` and base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bad = || KeyError::PublicKey(text.to_owned());
        let base64 = text.trim().strip_prefix("ed25519:").ok_or_else(bad)?;
        let bytes = BASE64.decode(base64).map_err(|_| bad())?;
        bytes.try_into().map(Self).map_err(|_| bad())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The private half of a key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

impl SigningKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        Self::from_pkcs8(pkcs8.map_err(|_| KeyError::Random)?.as_ref())
    }

    /// A key in PKCS #8, with or without its public half.
    ///
    /// # Errors
    /// [`KeyError::PrivateKey`].
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8);
        Ok(Self { pair: pair.map_err(|_| KeyError::PrivateKey)?, pkcs8: pkcs8.to_vec() })
    }

    /// Reads a key as [`Self::save`] writes it.
    ///
    /// # Errors
    /// Where the file cannot be read or holds no key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read_to_string(path)?;
        let body = text.trim().strip_prefix(PEM_BEGIN).and_then(|rest| rest.strip_suffix(PEM_END));
        let base64: String = body.ok_or(KeyError::PrivateKey)?.split_whitespace().collect();
        Self::from_pkcs8(&BASE64.decode(base64).map_err(|_| KeyError::PrivateKey)?)
    }

    /// Writes the key as PEM, readable by its owner alone. It never replaces a file.
    ///
    /// # Errors
    /// Where the file exists or cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        let base64 = BASE64.encode(&self.pkcs8);
        writeln!(file, "{PEM_BEGIN}")?;
        for line in base64.as_bytes().chunks(64) {
            file.write_all(line)?;
            file.write_all(b"\n")?;
        }
        writeln!(file, "{PEM_END}")?;
        Ok(file.sync_all()?)
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let public = self.pair.public_key().as_ref();
        PublicKey(public.try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    /// The signature over `message`, 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

/// Shows the public half only.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_published_vector_holds() {
        // RFC 8032, section 7.1, test 2, its seed wrapped as PKCS #8 by RFC 8410.
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let key =
            SigningKey::from_pkcs8(&bytes(&format!("302e020100300506032b657004220420{seed}")))
                .unwrap();
        let public = bytes("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(key.public().0, public[..]);
        let signature = key.sign(&[0x72]);
        let expected = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                        085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(signature, bytes(expected));
        assert!(key.public().verifies(&[0x72], &signature));
        assert!(!key.public().verifies(&[0x73], &signature));
    }

    #[test]
    fn a_saved_key_reads_back_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = SigningKey::generate().unwrap();
        key.save(&path).unwrap();
        assert_eq!(SigningKey::load(&path).unwrap().public(), key.public());
        assert!(SigningKey::generate().unwrap().save(&path).is_err());
        let text = key.public().to_string();
        assert_eq!(text.parse::<PublicKey>().unwrap(), key.public());
        fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").unwrap();
        assert!(matches!(SigningKey::load(&path), Err(KeyError::PrivateKey)));
    }

    #[cfg(unix)]
    #[test]
    fn a_saved_key_is_readable_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        SigningKey::generate().unwrap().save(&path).unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn text_that_is_no_public_key_is_refused() {
        for text in ["", "ed25519:", "ed25519:AAAA", "rsa:AAAA", "ed25519:é"] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }
}
