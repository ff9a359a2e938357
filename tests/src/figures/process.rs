//! What processes hold and threads take, as Linux tells it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The resident memory of a process, by its number or `self`, in KiB.
pub(super) fn resident_kib(process: &str) -> Result<u64> {
    status(process, "VmRSS:")
}

/// How many threads a process has.
pub(super) fn threads(process: &str) -> Result<u64> {
    status(process, "Threads:")
}

/// How many files, sockets and the like a process has open.
pub(super) fn handles(process: &str) -> Result<u64> {
    let folder = format!("/proc/{process}/fd");
    Ok(fs::read_dir(&folder).with_context(|| folder.clone())?.count() as u64)
}

/// How long this thread ran on a processor.
pub(super) fn thread_time() -> Result<Duration> {
    let file = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(file).context(file)?;
    let time = text.split_whitespace().next().and_then(|time| time.parse().ok());
    Ok(Duration::from_nanos(time.with_context(|| format!("{file} says {text:?}"))?))
}

fn status(process: &str, entry: &str) -> Result<u64> {
    let file = format!("/proc/{process}/status");
    let text = fs::read_to_string(&file).with_context(|| file.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix(entry));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("{file} has no {entry}"))
}
