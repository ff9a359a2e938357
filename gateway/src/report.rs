//! How a command speaks: results on stdout, everything else on stderr, and an exit code.

mod lines;

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use serde::Serialize;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::lines::Lines;

/// Done.
const DONE: u8 = 0;
/// The work failed.
const FAILED: u8 = 1;
/// The command line or a configuration file is wrong; clap uses the same code.
const USAGE: u8 = 2;

/// Without `GW_LOG`: problems, one line per request, what plugins print, and what goes live.
const LOG_FILTER: &str =
    "warn,access=info,gw_server=info,gw_deploy=info,gw_host=info,gw_inference=info";

/// Libraries that say more than anyone reads; `GW_LOG` may name them to hear it.
const QUIET: &str = "naga=warn,wgpu_core=warn,wgpu_hal=warn,cranelift_codegen=warn,wasmtime=warn";

/// What to add to an error so that the user can act on it. Attach it with `anyhow`'s `context`.
#[derive(Debug)]
pub(crate) struct Advice {
    message: String,
    hint: Option<String>,
    usage: bool,
}

impl Advice {
    /// What failed.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, usage: false }
    }

    /// What the user can do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The user's command line or configuration is at fault: exit code 2.
    pub(crate) fn usage(mut self) -> Self {
        self.usage = true;
        self
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Advice {}

/// A program of the user's ended with this exit code, and has said itself what there was to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program ended with exit code {}", self.0)
    }
}

impl std::error::Error for Exit {}

/// The output format of a command that prints data: for people or for programs. The variants
/// have no comments, because clap would spread every `--help` page over twice the lines for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// The flag `-o`, shared by every command that prints data.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Output {
    /// How to print the result
    #[arg(short = 'o', long = "output", env = "GW_OUTPUT", value_name = "FORMAT")]
    #[arg(value_enum, default_value = "text")]
    format: Format,
}

impl Output {
    /// Prints `value` in the chosen format; `text` renders it for people.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Text => print(text(value)),
            Format::Json => print(serde_json::to_string_pretty(value)?),
        }
    }
}

/// Writes a result to stdout, with a line end.
pub(crate) fn print(text: impl AsRef<str>) -> anyhow::Result<()> {
    let text = text.as_ref();
    let mut stdout = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
        // `gw plan … | head` has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Writes one line for the user to stderr. Nothing can be done where even that fails.
pub(crate) fn note(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A size for people: `21.9 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// The log. What waits in it is written when this is dropped.
pub(crate) struct Log(Lines);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Sends log events to stderr, filtered by `GW_LOG` (such as `debug` or `gw_host=trace`).
pub(crate) fn start_log() -> Log {
    let lines = Lines::start();
    let filter = std::env::var("GW_LOG").unwrap_or_default();
    let filter = if filter.is_empty() { LOG_FILTER } else { &filter };
    let colour = io::stderr().is_terminal() && !no_colour();
    // Of two directives for one target the later holds.
    let built = EnvFilter::try_new(format!("{QUIET},{filter}"));
    let mistake = built.as_ref().err().map(ToString::to_string);
    tracing_subscriber::fmt()
        .with_env_filter(built.unwrap_or_else(|_| EnvFilter::new("warn")))
        .with_ansi(colour)
        .with_writer(lines.clone())
        .finish()
        .with(filter_fn(|event| !shows_calls(event.target(), *event.level())))
        .init();
    if let Some(mistake) = mistake {
        note(format_args!("note: GW_LOG={filter:?} is not a log filter: {mistake}"));
    }
    Log(lines)
}

/// Whether an event holds what guests pass and are given, in full: secrets among it. No filter asks
/// for that.
fn shows_calls(target: &str, level: Level) -> bool {
    level == Level::TRACE && target.starts_with("wasmtime")
}

/// Whether `NO_COLOR` is set, see <https://no-color.org>.
fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Tells the user how the command ended.
pub(crate) fn end(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::from(DONE) };
    if let Some(Exit(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    note(describe(&error));
    ExitCode::from(exit_code(&error))
}

/// The error with its causes, one a line, and the hint where there is one.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Some errors print their source as well; nobody wants to read it twice.
        if last.contains(&cause) {
            continue;
        }
        let lead = if text.is_empty() { "error: " } else { "\n  because: " };
        text.push_str(lead);
        text.push_str(&cause);
        last = cause;
    }
    if let Some(hint) = hint(error) {
        text.push_str("\nhint: ");
        text.push_str(&hint);
    }
    text
}

fn hint(error: &anyhow::Error) -> Option<String> {
    error.downcast_ref::<Advice>().and_then(|advice| advice.hint.clone())
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = error.downcast_ref::<Advice>().is_some_and(|advice| advice.usage)
        || error.is::<gw_artifact::manifest::ManifestError>()
        || error.is::<crate::config::ConfigError>()
        // It says which key of the configuration is missing.
        || matches!(error.downcast_ref(), Some(gw_server::ServeError::NoKeys { .. }));
    if usage { USAGE } else { FAILED }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn no_filter_shows_what_guests_pass() {
        assert!(shows_calls("wasmtime_wasi::p2::bindings::io::streams", Level::TRACE));
        assert!(shows_calls("wasmtime_wasi_http::p2::bindings::http::types", Level::TRACE));
        assert!(!shows_calls("wasmtime_wasi_http::p2::error", Level::WARN));
        assert!(!shows_calls("gw_host::imports::log", Level::TRACE));
    }

    #[test]
    fn an_error_is_printed_with_its_causes_and_its_hint() {
        let error = Err::<(), _>(anyhow!("address in use"))
            .context(Advice::new("cannot listen on 1.2.3.4:5").hint("use --listen"))
            .context("starting the node")
            .unwrap_err();
        assert_eq!(
            describe(&error),
            "error: starting the node\n  because: cannot listen on 1.2.3.4:5\n  because: address \
             in use\nhint: use --listen"
        );
        assert_eq!(exit_code(&error), FAILED);
    }

    #[test]
    fn a_cause_that_was_printed_already_is_not_repeated() {
        let error = anyhow!("no such file").context("reading x: no such file");
        assert_eq!(describe(&error), "error: reading x: no such file");
    }

    #[test]
    fn usage_errors_have_their_own_exit_code() {
        let error = anyhow::Error::new(Advice::new("no").usage()).context("outer");
        assert_eq!(exit_code(&error), USAGE);
    }
}
