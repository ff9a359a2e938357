//! The node's configuration file: the crates' own sections, put together.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::report::Advice;

/// `gateway.toml`. `examples/gateway.toml` shows every key with its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// HTTP: limits, time-outs and the response cache.
    pub(crate) server: gw_server::ServerConfig,
    /// Revisions: how many are kept.
    pub(crate) deploy: gw_deploy::DeployConfig,
    /// Plugins: pools, the cache of compiled code, and what they may be granted.
    pub(crate) plugins: gw_host::HostConfig,
    /// Models: queues, batches and threads.
    pub(crate) inference: gw_inference::InferenceConfig,
}

/// All mistakes of a configuration file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    path: PathBuf,
    mistakes: Vec<(usize, String)>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, message)) in self.mistakes.iter().enumerate() {
            let end = if index + 1 < self.mistakes.len() { "\n" } else { "" };
            write!(f, "{}:{line}: {message}{end}", self.path.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake that was found.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            Advice::new(format!("reading the configuration {}", path.display())).usage()
        })?;
        Self::parse(&text)
            .map_err(|mistakes| ConfigError { path: path.to_path_buf(), mistakes }.into())
    }

    /// Serde stops at the first mistake. So each one is noted, its text is blanked, and the rest
    /// is read again.
    fn parse(text: &str) -> Result<Self, Vec<(usize, String)>> {
        let mut mistakes = Vec::new();
        let mut rest = text.to_owned();
        loop {
            let error = match toml::from_str::<Self>(&rest) {
                Ok(config) if mistakes.is_empty() => return Ok(config),
                Ok(_) => return Err(mistakes),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(0..0);
            let line = rest.get(..span.start).unwrap_or_default().matches('\n').count() + 1;
            mistakes.push((line, told(&rest, line, error.message())));
            let blanked = blank(&rest, span);
            // What does not parse any more, or does not change, has no further mistakes to give.
            if blanked == rest || blanked.parse::<toml::Table>().is_err() {
                return Err(mistakes);
            }
            rest = blanked;
        }
    }
}

/// The text without the lines of `span`; a section's heading goes with the whole section. Line
/// ends stay, so that later lines keep their numbers.
fn blank(text: &str, span: std::ops::Range<usize>) -> String {
    let start = text.get(..span.start).and_then(|head| head.rfind('\n')).map_or(0, |at| at + 1);
    let mut end = text
        .get(span.end..)
        .and_then(|tail| tail.find('\n'))
        .map_or(text.len(), |at| span.end + at);
    if text[start..].trim_start().starts_with('[') {
        end = text[end..].find("\n[").map_or(text.len(), |at| end + at);
    }
    let blanks = text[start..end].matches('\n').map(|_| '\n').collect::<String>();
    format!("{}{blanks}{}", &text[..start], &text[end..])
}

/// What is wrong in a line; serde does not say with which key.
fn told(text: &str, line: usize, message: &str) -> String {
    let key = text.lines().nth(line - 1).and_then(|line| line.split_once('='));
    match key {
        Some((key, _)) if !message.starts_with("unknown field") => {
            format!("`{}`: {message}", key.trim())
        }
        _ => with_suggestion(message),
    }
}

/// Serde's ``unknown field `a`, expected one of `b`, `c` `` with the nearest name first.
fn with_suggestion(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let (true, Some(given)) = (message.starts_with("unknown field"), names.next()) else {
        return message.to_owned();
    };
    let known: Vec<&str> = names.collect();
    let near = known
        .iter()
        .map(|name| (strsim::jaro_winkler(given, name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((_, name)) => format!("unknown key `{given}`; did you mean `{name}`?"),
        None => format!("unknown key `{given}`; known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/gateway.toml");
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_reference_configuration_equals_the_defaults() {
        assert_eq!(Config::parse(&reference()), Ok(Config::default()));
    }

    #[test]
    fn the_reference_configuration_names_every_key() {
        let given: toml::Table = reference().parse().unwrap();
        let defaults = toml::Table::try_from(Config::default()).unwrap();
        assert_eq!(given, defaults);
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        let text = "[inference]\nqueue_maxx = 1\nbatch_max = \"many\"\n\n[sever]\nx = 1\n\n\
                    [inference.deeper]\ny = 2\n";
        let mistakes = Config::parse(text).unwrap_err();
        let found: Vec<String> = mistakes.iter().map(|(l, m)| format!("{l}: {m}")).collect();
        assert_eq!(found.len(), 4, "{found:#?}");
        let has = |text: &str| found.iter().any(|mistake| mistake.contains(text));
        assert!(has("2: unknown key `queue_maxx`; did you mean `queue_max`?"), "{found:#?}");
        assert!(has("3: `batch_max`: invalid type: string \"many\", expected usize"), "{found:#?}");
        assert!(has("5: unknown key `sever`; did you mean `server`?"), "{found:#?}");
        assert!(has("8: unknown key `deeper`; known here: "), "{found:#?}");
    }

    #[test]
    fn a_number_out_of_bounds_is_a_mistake() {
        let text = "[inference]\nqueue_max = 0\nbatch_max = 0\ncpu_nice = 20\nrun_time = \"1\"\n";
        let mistakes = Config::parse(text).unwrap_err();
        let found: Vec<String> = mistakes.iter().map(|(l, m)| format!("{l}: {m}")).collect();
        let due = [
            "2: `queue_max`: invalid value: integer `0`, expected 1 or more",
            "3: `batch_max`: invalid value: integer `0`, expected 1 or more",
            "4: `cpu_nice`: invalid value: integer `20`, expected 0 to 19",
        ];
        assert_eq!(found[..3], due, "{found:#?}");
        assert!(found[3].starts_with("5: `run_time`: `1` is not a duration"), "{found:#?}");
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn what_is_not_toml_is_a_mistake_with_a_line() {
        let mistakes = Config::parse("[server]\nlisten = \n").unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert_eq!(mistakes[0].0, 2, "{mistakes:?}");
    }
}
