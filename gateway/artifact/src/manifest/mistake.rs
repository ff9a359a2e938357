//! What is wrong with a manifest.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1; 0 where the mistake has no line.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

/// All mistakes of one manifest, in the order of their lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    origin: String,
    mistakes: Vec<Mistake>,
}

impl ManifestError {
    pub(super) fn new(origin: &str, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| mistake.line);
        Self { origin: origin.to_owned(), mistakes }
    }

    /// The mistakes; there is at least one.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl std::error::Error for ManifestError {}

/// One line per mistake: `gw.toml:12: unknown key …; did you mean …?`.
impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mistake { line, message, hint }) in self.mistakes.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{}", self.origin)?;
            if *line > 0 {
                write!(f, ":{line}")?;
            }
            write!(f, ": {message}")?;
            if let Some(hint) = hint {
                write!(f, "; {hint}")?;
            }
        }
        Ok(())
    }
}
