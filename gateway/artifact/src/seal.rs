//! Files that only this node can have written: bytes with an HMAC under a key of the node.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// Length of the tag that stands before the sealed bytes.
const TAG_BYTES: usize = 32;
const KEY_BYTES: usize = 32;

/// A node's sealing key. HMAC-SHA256 over a length-prefixed context and the bytes.
pub struct Seal(hmac::Key);

impl Seal {
    /// Reads the key at `path`, or makes one there that only its owner can read.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or does not hold a key.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(key) => Self::from_key(&key, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(error),
        }
    }

    fn create(path: &Path) -> io::Result<Self> {
        let mut key = [0; KEY_BYTES];
        let random = SystemRandom::new();
        random.fill(&mut key).map_err(|_| io::Error::other("the system gives no random bytes"))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        // Made beside its place and linked into it, so that of two processes one key wins whole.
        // The temporary file is readable by its owner alone.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&key)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Ok(_) => Self::from_key(&key, path),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Self::from_key(&fs::read(path)?, path)
            }
            Err(error) => Err(error.error),
        }
    }

    fn from_key(key: &[u8], path: &Path) -> io::Result<Self> {
        if key.len() != KEY_BYTES {
            let message = format!(
                "{} holds {} bytes, not a key of {KEY_BYTES}: remove it to get a new one",
                path.display(),
                key.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    /// `bytes` with their tag before them. `context` says what they are for: it must be the same
    /// at [`Self::unseal`].
    pub fn seal(&self, bytes: &[u8], context: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(TAG_BYTES + bytes.len());
        sealed.extend_from_slice(self.tag(bytes, context).as_ref());
        sealed.extend_from_slice(bytes);
        sealed
    }

    /// The bytes that were sealed for `context` by this key; `None` for anything else.
    pub fn unseal(&self, sealed: &[u8], context: &[u8]) -> Option<Bytes> {
        let (tag, bytes) = sealed.split_at_checked(TAG_BYTES)?;
        // Comparing tags of tags takes the same time wherever two tags differ.
        let (given, expected) = (hmac::sign(&self.0, tag), self.tag(bytes, context));
        hmac::verify(&self.0, expected.as_ref(), given.as_ref()).ok()?;
        Some(Bytes::copy_from_slice(bytes))
    }

    fn tag(&self, bytes: &[u8], context: &[u8]) -> hmac::Tag {
        let mut signer = hmac::Context::with_key(&self.0);
        signer.update(&(context.len() as u64).to_le_bytes());
        signer.update(context);
        signer.update(bytes);
        signer.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_for_the_context_is_unsealed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let seal = Seal::open(&path).unwrap();
        let sealed = seal.seal(b"code", b"plugin a");
        let again = Seal::open(&path).unwrap();
        assert_eq!(again.unseal(&sealed, b"plugin a").unwrap(), "code");
        assert!(again.unseal(&sealed, b"plugin b").is_none());
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(again.unseal(&changed, b"plugin a").is_none(), "byte {index}");
            assert!(again.unseal(&sealed[..index], b"plugin a").is_none(), "cut at {index}");
        }
        let stranger = Seal::open(&folder.path().join("other.key")).unwrap();
        assert!(stranger.unseal(&sealed, b"plugin a").is_none());
    }

    #[cfg(unix)]
    #[test]
    fn the_key_is_readable_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/node.key");
        Seal::open(&path).unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_broken_key_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        fs::write(&path, b"short").unwrap();
        let error = Seal::open(&path).err().unwrap().to_string();
        assert!(error.contains("node.key") && error.contains("5 bytes"), "{error}");
    }
}
