//! The record of releases: append-only, one line per record, each with its checksum.
//!
//! A line is the SHA-256 of the text in hex, a space, the text as JSON and a line feed. A node
//! killed in the middle of a write leaves a torn last line, which the next start cuts off; every
//! record before it was synced to the disk when it was written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gw_artifact::Digest;
use gw_artifact::disk::{sync_dir, write_whole};
use serde::{Deserialize, Serialize};

/// The file's name in the state directory.
pub(crate) const FILE_NAME: &str = "releases.log";

/// One thing that happened. Replaying all of them gives the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Record {
    /// A revision was pushed and became the wanted one.
    Released {
        app: String,
        revision: Digest,
        /// The bundle's file; it holds the signature too, which is not part of the revision.
        bundle: Digest,
        version: String,
        signer: String,
        at: u64,
    },
    /// An earlier revision became the wanted one again.
    RolledBack { app: String, revision: Digest, at: u64 },
    /// A revision kept failing; it is wanted no more until somebody says so again.
    Quarantined { app: String, revision: Digest, reason: String, at: u64 },
    /// An old revision was forgotten; its bundle may be gone.
    Dropped { app: String, revision: Digest },
}

/// What reading the file found.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// The records, oldest first.
    pub(crate) records: Vec<Record>,
    /// Bytes cut off after the last whole record.
    pub(crate) torn_bytes: u64,
    /// Damaged lines that whole records follow: not a torn write but a damaged disk.
    pub(crate) damaged_lines: usize,
}

/// The open log, positioned after its last whole record.
#[derive(Debug)]
pub(crate) struct ReleaseLog {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl ReleaseLog {
    /// Opens or creates the log in `dir` and cuts off a torn tail.
    pub(crate) fn open(dir: &Path) -> io::Result<(Self, Replay)> {
        let path = dir.join(FILE_NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let (replay, whole) = replay(&text);
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
        let mut log = Self { file, path, bytes: whole };
        if replay.torn_bytes > 0 {
            log.cut()?;
        }
        log.file.seek(SeekFrom::Start(whole))?;
        sync_dir(dir)?;
        Ok((log, replay))
    }

    /// Writes `record` and returns once it is on the disk.
    ///
    /// After an error the log is as it was before: what a full disk left behind is cut off again.
    pub(crate) fn append(&mut self, record: &Record) -> io::Result<()> {
        let line = line(record)?;
        let written = self
            .file
            .seek(SeekFrom::Start(self.bytes))
            .and_then(|_| self.file.write_all(line.as_bytes()))
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // The next append starts at the same place, so a failure to cut loses nothing either.
            let _ = self.cut();
            return Err(error);
        }
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Replaces the whole log by `records`, so that it does not grow for ever.
    pub(crate) fn rewrite(&mut self, records: &[Record]) -> io::Result<()> {
        let mut text = String::new();
        for record in records {
            text.push_str(&line(record)?);
        }
        self.file = write_whole(&self.path, text.as_bytes())?;
        self.bytes = text.len() as u64;
        Ok(())
    }

    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.bytes)?;
        self.file.sync_data()
    }
}

fn line(record: &Record) -> io::Result<String> {
    let text = serde_json::to_string(record)?;
    Ok(format!("{} {text}\n", Digest::of(text.as_bytes()).hex()))
}

/// The whole records of `bytes`, and where the last of them ends.
fn replay(bytes: &[u8]) -> (Replay, u64) {
    let mut replay = Replay::default();
    let (mut at, mut whole, mut suspect) = (0, 0, 0);
    while let Some(length) = bytes[at..].iter().position(|&byte| byte == b'\n') {
        let record = parse(&bytes[at..at + length]);
        at += length + 1;
        if let Some(record) = record {
            replay.records.push(record);
            replay.damaged_lines += suspect;
            (whole, suspect) = (at, 0);
        } else {
            suspect += 1;
        }
    }
    replay.torn_bytes = (bytes.len() - whole) as u64;
    (replay, whole as u64)
}

fn parse(line: &[u8]) -> Option<Record> {
    let line = std::str::from_utf8(line).ok()?;
    let (checksum, text) = line.split_once(' ')?;
    if Digest::of(text.as_bytes()).hex() != checksum {
        return None;
    }
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(n: u64) -> Record {
        Record::Released {
            app: "demo".into(),
            revision: Digest::of(&n.to_le_bytes()),
            bundle: Digest::of(b"bundle"),
            version: format!("0.{n}.0"),
            signer: "ed25519:key".into(),
            at: n,
        }
    }

    fn records(count: u64) -> Vec<Record> {
        (0..count).map(released).collect()
    }

    fn written(dir: &Path, records: &[Record]) -> Vec<u8> {
        let (mut log, _) = ReleaseLog::open(dir).unwrap();
        for record in records {
            log.append(record).unwrap();
        }
        fs::read(dir.join(FILE_NAME)).unwrap()
    }

    #[test]
    fn a_log_cut_at_any_byte_gives_every_whole_record_and_takes_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        let all = records(3);
        let bytes = written(dir.path(), &all);
        let ends: Vec<usize> =
            bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
        for cut in 0..=bytes.len() {
            fs::write(dir.path().join(FILE_NAME), &bytes[..cut]).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let (mut log, replay) = ReleaseLog::open(dir.path()).unwrap();
            assert_eq!(replay.records, all[..whole], "cut at {cut}");
            assert_eq!(replay.damaged_lines, 0);
            log.append(&released(9)).unwrap();
            drop(log);
            let (_, replay) = ReleaseLog::open(dir.path()).unwrap();
            assert_eq!(replay.records.len(), whole + 1, "cut at {cut}");
            assert_eq!(replay.records.last(), Some(&released(9)));
            assert_eq!(replay.torn_bytes, 0);
        }
    }

    #[test]
    fn a_tail_of_zeros_is_torn_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = written(dir.path(), &records(2));
        bytes.extend([0; 512]);
        fs::write(dir.path().join(FILE_NAME), &bytes).unwrap();
        let (_, replay) = ReleaseLog::open(dir.path()).unwrap();
        assert_eq!((replay.records.len(), replay.torn_bytes), (2, 512));
    }

    #[test]
    fn a_flipped_bit_anywhere_loses_one_record_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let all = records(3);
        let bytes = written(dir.path(), &all);
        let first = bytes.iter().position(|b| *b == b'\n').unwrap();
        for at in 0..first {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x01;
            let (replay, _) = replay(&damaged);
            assert_eq!(replay.records, all[1..], "bit flipped in byte {at}");
            assert!(replay.damaged_lines >= 1);
        }
    }

    #[test]
    fn a_rewritten_log_holds_only_what_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = ReleaseLog::open(dir.path()).unwrap();
        for record in records(5) {
            log.append(&record).unwrap();
        }
        log.rewrite(&records(1)).unwrap();
        log.append(&released(7)).unwrap();
        let (_, replay) = ReleaseLog::open(dir.path()).unwrap();
        assert_eq!(replay.records, [released(0), released(7)]);
    }
}
