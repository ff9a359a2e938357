//! Numbers of bytes, as people write them: as text with a unit, or as a plain number.
//!
//! Fields of other types than [`ByteSize`] read and write the same with
//! `#[serde(with = "gw_artifact::size")]`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes; its text is such as `64MiB`, `10 MB` or `1024`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A text that is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: expected a number and a unit, such as \"64MiB\" or \"10MB\"")]
pub struct ByteSizeError(String);

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let bad = || ByteSizeError(text.to_owned());
        let trimmed = text.trim();
        let unit_at = trimmed.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(trimmed.len());
        let (number, unit) = (trimmed[..unit_at].trim_end(), &trimmed[unit_at..]);
        let factor = match unit {
            "" => 1,
            _ => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(bad)?.1,
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(factor).map(Self).ok_or_else(bad)
    }
}

/// Exact: the largest binary unit that divides the number, else decimal, else bytes.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |&&(_, factor): &&(&str, u64)| self.0 >= factor && self.0.is_multiple_of(factor);
        match UNITS.iter().find(fits) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;

        impl Visitor<'_> for Size {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\", or a number of bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                let negative = |_| E::custom(format!("{bytes} is not a number of bytes"));
                bytes.try_into().map(ByteSize).map_err(negative)
            }
        }

        deserializer.deserialize_any(Size)
    }
}

/// Writes a number of bytes as the text of a [`ByteSize`].
///
/// # Errors
/// Those of the serializer.
pub fn serialize<N, S>(bytes: &N, serializer: S) -> Result<S::Ok, S::Error>
where
    N: Copy + TryInto<u64>,
    S: Serializer,
{
    let bytes = (*bytes).try_into().map_err(|_| serde::ser::Error::custom("beyond 64 bits"))?;
    ByteSize(bytes).serialize(serializer)
}

/// Reads a number of bytes as a [`ByteSize`] is read.
///
/// # Errors
/// What is no size, or does not fit the field.
pub fn deserialize<'de, N, D>(deserializer: D) -> Result<N, D::Error>
where
    N: TryFrom<u64>,
    D: Deserializer<'de>,
{
    let bytes = ByteSize::deserialize(deserializer)?;
    bytes.0.try_into().map_err(|_| D::Error::custom(format!("{bytes} is too large here")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("10 MB", 10_000_000),
            ("1024", 1024),
            ("2gib", 2 << 30),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1MB", "1.5MB", "12 parsecs", "20000000TiB", "1 MiB MiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Keys {
        size: ByteSize,
        #[serde(with = "super")]
        number: u32,
    }

    #[test]
    fn every_key_takes_text_and_numbers() {
        let keys = Keys { size: ByteSize(2048), number: 1 << 20 };
        for text in
            [r#"{"size": "2KiB", "number": "1MiB"}"#, r#"{"size": 2048, "number": 1048576}"#]
        {
            assert_eq!(serde_json::from_str::<Keys>(text).unwrap(), keys, "{text}");
        }
        assert_eq!(serde_json::to_string(&keys).unwrap(), r#"{"size":"2KiB","number":"1MiB"}"#);
        for (text, said) in [
            (r#"{"size": -1, "number": 0}"#, "-1 is not a number of bytes"),
            (r#"{"size": true, "number": 0}"#, "expected a size such as"),
            (r#"{"size": 0, "number": "4GiB"}"#, "4GiB is too large here"),
        ] {
            let error = serde_json::from_str::<Keys>(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_text_of_a_size_reads_back(bytes: u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }
    }
}
