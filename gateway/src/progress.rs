//! Long work, shown: a bar with rate and time left on a terminal, plain lines elsewhere.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use gw_artifact::Progress;
use indicatif::{ProgressBar, ProgressStyle};

use crate::report;

/// How often work is mentioned where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// One transfer after the other, on stderr.
pub(crate) struct Shown {
    /// What is done, such as `fetching`.
    verb: &'static str,
    line: Mutex<Option<Line>>,
}

/// The transfer that runs.
enum Line {
    Bar(ProgressBar),
    Plain {
        name: String,
        total: Option<u64>,
        /// What was there before this run.
        start: u64,
        done: u64,
        begun: Instant,
        told: Instant,
    },
}

impl Line {
    fn begin(verb: &str, name: &str, total: Option<u64>, done: u64) -> Self {
        if std::io::stderr().is_terminal() {
            return Self::Bar(bar(name, total, done));
        }
        let now = Instant::now();
        let size = total.map_or_else(String::new, |total| format!(" ({})", report::bytes(total)));
        report::note(format_args!("{verb} {name}{size}"));
        Self::Plain { name: name.to_owned(), total, start: done, done, begun: now, told: now }
    }

    fn advance(&mut self, bytes: u64) {
        match self {
            Self::Bar(bar) => bar.inc(bytes),
            Self::Plain { name, total, start, done, begun, told } => {
                *done += bytes;
                if told.elapsed() >= LINE_EVERY {
                    *told = Instant::now();
                    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                    let rate = (*done - *start).saturating_mul(1000) / millis.max(1);
                    report::note(plain(name, *done, *total, rate));
                }
            }
        }
    }

    fn end(self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Plain { .. } => {}
        }
    }
}

/// `minilm: 12.00 MiB of 24.00 MiB (50 %), 3.00 MiB/s, 4 s left`, at so many bytes a second.
fn plain(name: &str, done: u64, total: Option<u64>, rate: u64) -> String {
    let mut line = format!("{name}: {}", report::bytes(done));
    // Writing to a string cannot fail.
    if let Some(total) = total.filter(|&total| total > 0) {
        let _ =
            write!(line, " of {} ({} %)", report::bytes(total), done.saturating_mul(100) / total);
    }
    let _ = write!(line, ", {}/s", report::bytes(rate));
    if let Some(left) = total.and_then(|total| total.checked_sub(done)) {
        let _ = write!(line, ", {} s left", left / rate.max(1));
    }
    line
}

fn bar(name: &str, total: Option<u64>, done: u64) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg:20!} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{msg:20!} {spinner} {bytes} {bytes_per_sec}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(name.to_owned());
    bar.set_position(done);
    // What an earlier run fetched says nothing about this run's rate.
    bar.reset_eta();
    bar
}

/// A bar on a terminal for work of so many equal steps, and nothing elsewhere.
pub(crate) fn steps(name: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{msg:20!} [{bar:30}] {percent} %, {eta} left");
    bar.set_style(style.expect("the template is a constant").progress_chars("=> "));
    bar.set_message(name.to_owned());
    bar
}

impl Shown {
    /// Shows downloads.
    pub(crate) fn fetching() -> Self {
        Self { verb: "fetching", line: Mutex::default() }
    }

    /// Shows uploads.
    pub(crate) fn uploading() -> Self {
        Self { verb: "uploading", line: Mutex::default() }
    }

    fn with(&self, act: impl FnOnce(&mut Option<Line>)) {
        // A panic while drawing must not end the work: take the line as it is.
        act(&mut self.line.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Progress for Shown {
    fn begin(&self, name: &str, total: Option<u64>, done: u64) {
        self.with(|line| {
            if let Some(previous) = line.replace(Line::begin(self.verb, name, total, done)) {
                previous.end();
            }
        });
    }

    fn advance(&self, bytes: u64) {
        self.with(|line| {
            if let Some(line) = line {
                line.advance(bytes);
            }
        });
    }

    fn end(&self) {
        self.with(|line| {
            if let Some(line) = line.take() {
                line.end();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_has_the_rate_and_the_time_left() {
        let line = plain("minilm", 12 << 20, Some(24 << 20), 3 << 20);
        assert_eq!(line, "minilm: 12.00 MiB of 24.00 MiB (50 %), 3.00 MiB/s, 4 s left");
        assert_eq!(plain("x", 1 << 20, None, 1 << 20), "x: 1.00 MiB, 1.00 MiB/s");
    }
}
