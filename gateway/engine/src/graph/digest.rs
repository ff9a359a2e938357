//! What names bytes by their content.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::device::threads::on_all_cores;

/// Bytes that one core digests at a time: more than its caches lose by changing cores.
const PART: usize = 1 << 20;

/// A SHA-256. Prints as hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; Self::BYTES]);

/// A [`Digest`] in the making.
#[derive(Clone, Default)]
pub(crate) struct Digester(Sha256);

impl Digest {
    /// Its size.
    pub const BYTES: usize = 32;

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl Digester {
    /// Takes one piece in. Where a piece ends is part of what is digested.
    ///
    /// Of a large one the digests of its parts are taken in, which all cores compute: one core
    /// needs longer for a model than the driver does to start. The length says which it is, so
    /// different pieces never give the same bytes.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.0.update((piece.len() as u64).to_le_bytes());
        if piece.len() <= PART {
            self.0.update(piece);
            return;
        }
        let parts: Vec<&[u8]> = piece.chunks(PART).collect();
        for digest in on_all_cores(&parts, |part| Digest::of(part)) {
            self.0.update(digest.0);
        }
    }

    /// The digest of all pieces.
    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digester").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(pieces: &[&[u8]]) -> Digest {
        let mut digester = Digester::default();
        for piece in pieces {
            digester.add(piece);
        }
        digester.finish()
    }

    #[test]
    fn every_byte_and_every_end_counts() {
        let bytes: Vec<u8> = (0..251u8).cycle().take(3 * PART + 5).collect();
        let whole = digest(&[&bytes]);
        assert_eq!(digest(&[&bytes]), whole);
        for at in [0, PART - 1, PART, 2 * PART + 7, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(digest(&[&other]), whole, "{at}");
        }
        let (left, right) = bytes.split_at(PART);
        assert_ne!(digest(&[left, right]), whole);
        assert_ne!(digest(&[&bytes[..bytes.len() - 1]]), whole);
        // What a large piece becomes is not what a small piece of the same digests becomes.
        let parts: Vec<u8> = bytes.chunks(PART).flat_map(|part| Digest::of(part).0).collect();
        assert_ne!(digest(&[&parts]), whole);
        let mut swapped = bytes.clone();
        swapped[..2 * PART].rotate_left(PART);
        assert_ne!(digest(&[&swapped]), whole);
    }
}
