//! What names bytes by their content.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A BLAKE3 digest. Prints as hexadecimal digits.
///
/// A start digests all weights to find their plan. SHA-256, by which artifacts are named, took
/// two fifths of the CPU samples of a warm start on a processor without instructions for it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; Self::BYTES]);

/// A [`Digest`] in the making.
#[derive(Clone, Default)]
pub(crate) struct Digester(blake3::Hasher);

impl Digest {
    /// Its size.
    pub const BYTES: usize = 32;

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }
}

impl Digester {
    /// Takes one piece in. Where a piece ends is part of what is digested.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.0.update(&(piece.len() as u64).to_le_bytes());
        self.0.update(piece);
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
        let bytes: Vec<u8> = (0..251u8).cycle().take((3 << 20) + 5).collect();
        let whole = digest(&[&bytes]);
        assert_eq!(digest(&[&bytes]), whole);
        for at in [0, 1 << 20, (2 << 20) + 7, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(digest(&[&other]), whole, "{at}");
        }
        let (left, right) = bytes.split_at(1 << 20);
        assert_ne!(digest(&[left, right]), whole);
        assert_ne!(digest(&[right, left]), digest(&[left, right]));
        assert_ne!(digest(&[&bytes[..bytes.len() - 1]]), whole);
    }

    #[test]
    fn it_is_blake3() {
        // The first vector of the specification: no bytes.
        let expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Digest::of(&[]).to_string(), expected);
    }
}
