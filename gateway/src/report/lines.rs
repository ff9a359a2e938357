//! Log lines on their way to stderr. Those of requests come by the thousand, so they are written
//! together, [`DELAY`] late; any other line is written at once.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The events that may wait: one for each request.
const ACCESS: &str = "access";
/// How long they wait for each other. Of a node that is killed, so much of its log is lost.
const DELAY: Duration = Duration::from_millis(20);
/// What waits in memory is bounded by this and one line, in bytes.
const WAITING_BYTES: usize = 64 << 10;

/// Clones write to the same place.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

struct Shared {
    waiting: Mutex<Vec<u8>>,
    some: Condvar,
}

impl Lines {
    /// Starts the thread that writes what waits. Where there is none, nothing waits.
    pub(super) fn start() -> Self {
        let lines = Self(Arc::new(Shared { waiting: Mutex::default(), some: Condvar::new() }));
        let shared = Arc::clone(&lines.0);
        let thread = std::thread::Builder::new().name("gw-log".to_owned());
        // Without it the buffer is written when it is full, and by whatever else is logged.
        let _ = thread.spawn(move || shared.write_in_time());
        lines
    }

    /// Writes what waits.
    pub(super) fn flush(&self) {
        write_out(&mut self.0.waiting());
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_in_time(&self) {
        loop {
            let waiting = self.some.wait_while(self.waiting(), |waiting| waiting.is_empty());
            let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            let waits = |waiting: &mut Vec<u8>| !waiting.is_empty();
            let waited = self.some.wait_timeout_while(waiting, DELAY, waits);
            let lines = std::mem::take(&mut *waited.unwrap_or_else(PoisonError::into_inner).0);
            // Outside the lock: whoever logs goes on meanwhile.
            write_all(&lines);
        }
    }
}

fn write_out(waiting: &mut Vec<u8>) {
    write_all(waiting);
    waiting.clear();
}

/// Nothing can be done where even stderr fails.
fn write_all(lines: &[u8]) {
    let _ = io::stderr().lock().write_all(lines);
}

/// Takes the lines of one event.
pub(super) struct Line {
    lines: Lines,
    may_wait: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { lines: self.clone(), may_wait: false }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        Line { lines: self.clone(), may_wait: meta.target() == ACCESS }
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.lines.0.waiting();
        let was_empty = waiting.is_empty();
        waiting.extend_from_slice(line);
        if !self.may_wait || waiting.len() >= WAITING_BYTES {
            write_out(&mut waiting);
        } else if was_empty {
            self.lines.0.some.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(lines: &Lines, may_wait: bool, line: &str) {
        Line { lines: lines.clone(), may_wait }.write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn lines_of_requests_wait_for_another_kind_for_a_full_buffer_or_for_the_end() {
        let shared = Shared { waiting: Mutex::default(), some: Condvar::new() };
        let lines = Lines(Arc::new(shared));
        let waiting = || lines.0.waiting().len();
        write(&lines, true, "a\n");
        write(&lines, true, "b\n");
        assert_eq!(waiting(), 4);
        write(&lines, false, "c\n");
        assert_eq!(waiting(), 0);
        write(&lines, true, &"d".repeat(WAITING_BYTES - 1));
        assert_eq!(waiting(), WAITING_BYTES - 1);
        write(&lines, true, "e");
        assert_eq!(waiting(), 0);
        write(&lines, true, "f\n");
        lines.flush();
        assert_eq!(waiting(), 0);
    }
}
