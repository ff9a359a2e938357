//! What a guest says, in the node's log under the plugin's name: what it prints, line by line, and
//! the messages of `wasi:logging`. Secrets are masked in all of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Level;

use crate::imports::print::{Printed, Sink};
use crate::imports::secret::Masks;

/// A line longer than this is split.
const LINE_BYTES_MAX: usize = 4096;

/// What one instance says, on its two streams and through `wasi:logging`: all of it shares one
/// allowance. Clones write to the same log.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<Shared>>);

/// Standard output or error of one instance; clones write to the same lines.
#[derive(Clone)]
pub(crate) struct Output {
    stream: Stream,
    log: Log,
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

struct Shared {
    plugin: Arc<str>,
    request_id: String,
    masks: Masks,
    /// What may still be said.
    bytes_left: usize,
    /// The unfinished line of each stream. What waits for its end is bounded by the allowance, and
    /// stays in one piece, so that no secret is cut in two.
    lines: [Vec<u8>; 2],
}

impl Log {
    /// The log of one instance, which may say `bytes_max` bytes in all.
    pub(crate) fn new(plugin: &Arc<str>, request_id: &str, bytes_max: usize, masks: Masks) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            plugin: Arc::clone(plugin),
            request_id: request_id.to_owned(),
            masks,
            bytes_left: bytes_max,
            lines: [Vec::new(), Vec::new()],
        })))
    }

    /// Standard output and standard error.
    pub(crate) fn outputs(&self) -> (Printed<Output>, Printed<Output>) {
        (Printed(self.output(Stream::Stdout)), Printed(self.output(Stream::Stderr)))
    }

    fn output(&self, stream: Stream) -> Output {
        Output { stream, log: self.clone() }
    }

    /// One message of `wasi:logging`.
    pub(crate) fn message(&self, level: Level, context: &str, message: &str) {
        self.shared().message(level, context, message);
    }

    /// A line about what the guest tried, which it may have spelled. It counts as said by the
    /// guest, so that trying again and again fills no log.
    pub(crate) fn refused(&self, what: &str) {
        let mut shared = self.shared();
        let (what, cut) = shared.kept(what);
        if !cut {
            let (plugin, request_id) = (&*shared.plugin, &*shared.request_id);
            tracing::warn!(plugin, request_id, refused = ?what);
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // A line is plain data: one that a panic left half written is only a shorter line.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output {
    fn print(&self, bytes: &[u8]) {
        self.log.shared().print(self.stream, bytes);
    }
}

impl Shared {
    fn print(&mut self, stream: Stream, bytes: &[u8]) {
        let kept = self.take(bytes.len());
        for &byte in &bytes[..kept] {
            if byte == b'\n' {
                self.end_line(stream, false);
            } else {
                self.lines[stream as usize].push(byte);
            }
        }
        if kept < bytes.len() {
            self.end_line(stream, true);
            self.exhausted();
        }
    }

    fn message(&mut self, level: Level, context: &str, message: &str) {
        let (context, context_cut) = self.kept(context);
        let (message, message_cut) = self.kept(message);
        let (plugin, request_id) = (&*self.plugin, &*self.request_id);
        // Debug formatting escapes control characters: a guest cannot forge log lines.
        match level {
            Level::ERROR => tracing::error!(plugin, request_id, ?context, ?message),
            Level::WARN => tracing::warn!(plugin, request_id, ?context, ?message),
            Level::INFO => tracing::info!(plugin, request_id, ?context, ?message),
            Level::DEBUG => tracing::debug!(plugin, request_id, ?context, ?message),
            Level::TRACE => tracing::trace!(plugin, request_id, ?context, ?message),
        }
        if context_cut || message_cut {
            self.exhausted();
        }
    }

    /// As much of `text` as may still be said, without secrets, and whether that is not all.
    fn kept(&mut self, text: &str) -> (String, bool) {
        let kept = &text[..text.floor_char_boundary(self.take(text.len()))];
        let cut = kept.len() < text.len();
        let shown = if cut { self.masks.shown(kept) } else { kept.len() };
        (self.masks.mask(&kept[..shown]), cut)
    }

    /// Takes up to `wanted` bytes from the allowance.
    fn take(&mut self, wanted: usize) -> usize {
        let taken = wanted.min(self.bytes_left);
        self.bytes_left -= taken;
        taken
    }

    fn exhausted(&self) {
        let plugin = &*self.plugin;
        tracing::debug!(plugin, "printed more than one request may; the rest is dropped");
    }

    /// Writes the line of a stream to the log; `cut` where its end was dropped.
    fn end_line(&mut self, stream: Stream, cut: bool) {
        let line = std::mem::take(&mut self.lines[stream as usize]);
        let text = String::from_utf8_lossy(&line);
        let shown = if cut { self.masks.shown(&text) } else { text.len() };
        let text = self.masks.mask(&text[..shown]);
        let mut rest = text.as_str();
        let (plugin, request_id) = (&*self.plugin, &*self.request_id);
        while !rest.is_empty() {
            let (text, after) = rest.split_at(rest.floor_char_boundary(LINE_BYTES_MAX));
            rest = after;
            // Debug formatting escapes control characters: a guest cannot forge log lines.
            match stream {
                Stream::Stdout => tracing::info!(plugin, request_id, stdout = ?text),
                Stream::Stderr => tracing::info!(plugin, request_id, stderr = ?text),
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end_line(Stream::Stdout, false);
        self.end_line(Stream::Stderr, false);
    }
}

impl Sink for Output {
    fn accept(&self, bytes: &[u8]) -> Result<(), &'static str> {
        self.print(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::imports::secret::Secret;

    fn log(bytes_max: usize, secrets: &[&str]) -> Log {
        let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(secret)).collect();
        Log::new(&Arc::from("p"), "id", bytes_max, Masks::new(secrets.iter()))
    }

    /// What reaches the node's log while `say` runs.
    fn written(say: impl FnOnce()) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&written);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .without_time()
            .with_writer(move || Written(Arc::clone(&writer)))
            .finish();
        tracing::subscriber::with_default(subscriber, say);
        String::from_utf8(written.lock().unwrap().clone()).unwrap()
    }

    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_exceeds_the_allowance_is_dropped() {
        let log = log(12, &[]);
        let (stdout, stderr) = (log.output(Stream::Stdout), log.output(Stream::Stderr));
        stdout.print(b"12345678");
        log.message(Level::INFO, "", "ab");
        stderr.print(b"abcd");
        stderr.print(b"more");
        log.message(Level::INFO, "x", "y");
        let shared = log.shared();
        assert_eq!(shared.bytes_left, 0);
        assert_eq!(shared.lines[0], b"12345678");
        assert!(shared.lines[1].is_empty(), "the cut line was ended");
    }

    #[test]
    fn secrets_are_masked_on_every_way_into_the_log() {
        let text = written(|| {
            let log = log(1 << 20, &["hunter2"]);
            let (stdout, stderr) = (log.output(Stream::Stdout), log.output(Stream::Stderr));
            // In two writes, over the place where a long line is split, and without a line end.
            stdout.print(b"key=hun");
            stdout.print(b"ter2\n");
            stdout.print(&[&[b'x'; LINE_BYTES_MAX - 3][..], b"hunter2\n"].concat());
            stderr.print(b"hunter2");
            log.message(Level::ERROR, "hunter2", "is hunter2");
            log.refused("http://hunter2.example.com");
        });
        assert!(!text.contains("hunter2") && !text.contains("hun"), "{text}");
        assert_eq!(text.matches("***").count(), 6, "{text}");
    }

    #[test]
    fn a_line_cut_within_a_secret_does_not_show_its_first_half() {
        let text = written(|| {
            let log = log(8, &["hunter2"]);
            log.output(Stream::Stdout).print(b"key=hunter2");
            drop(log);
            let log = self::log(8, &["hunter2"]);
            log.message(Level::INFO, "", "key=hunter2");
        });
        assert_eq!(text.matches("key=\"").count(), 2, "{text}");
    }

    #[test]
    fn a_message_has_its_level_and_cannot_forge_a_line() {
        let text = written(|| {
            let log = log(1 << 10, &[]);
            log.message(Level::WARN, "db", "slow\nINFO forged");
            log.message(Level::TRACE, "", "t");
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].trim_start().starts_with("WARN"), "{text}");
        assert!(lines[0].contains("context=\"db\"") && lines[0].contains("plugin=\"p\""), "{text}");
        assert!(lines[0].contains("slow\\nINFO forged"), "{text}");
        assert!(lines[1].trim_start().starts_with("TRACE"), "{text}");
    }
}
