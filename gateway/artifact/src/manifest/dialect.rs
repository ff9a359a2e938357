//! Which numbers and functions a core module means by wasi-nn.

use std::fmt;
use std::str::FromStr;

/// The dialect of wasi-nn that a core module was built for; components need none, because their
/// imports name a version. The same numbers mean other encodings and types in another dialect, so
/// it cannot be guessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NnDialect {
    /// `wasi_ephemeral_nn` as the specification has it; the crate `wasi-nn` speaks it.
    #[default]
    Standard,
    /// `wasi_ephemeral_nn` with the functions and encodings that WasmEdge adds.
    WasmEdge,
    /// WAMR's own `wasi_nn`.
    Wamr,
}

/// A text that is no [`NnDialect`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no dialect of wasi-nn: use standard, wasmedge or wamr")]
pub struct NnDialectError(String);

impl NnDialect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Standard, Self::WasmEdge, Self::Wamr];

    /// As users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::WasmEdge => "wasmedge",
            Self::Wamr => "wamr",
        }
    }
}

impl fmt::Display for NnDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for NnDialect {
    type Err = NnDialectError;

    fn from_str(text: &str) -> Result<Self, NnDialectError> {
        let found = Self::ALL.into_iter().find(|dialect| dialect.name() == text);
        found.ok_or_else(|| NnDialectError(text.to_owned()))
    }
}
