//! Programs to measure against, installed and started by `tests/peers/run`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::repo;

/// A running peer: it has its workload ready and measures a round when it is asked.
pub struct Peer {
    name: String,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts `peer` with a workload and waits until it is ready.
    ///
    /// # Errors
    /// Where it cannot be installed or started; its own words are on stderr.
    pub fn start(peer: &str, args: &[String], envs: &[(&str, PathBuf)]) -> Result<Self> {
        let mut child = Command::new(repo().join("tests/peers/run"))
            .arg(peer)
            .args(args)
            .envs(envs.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting tests/peers/run")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (stdin, stdout) = stdin.zip(stdout).context("stdin and stdout are piped")?;
        let name = peer.to_owned();
        let mut peer = Self { name, child, stdin, stdout: BufReader::new(stdout) };
        let line = peer.line()?;
        ensure!(line == "ready", "{} said `{line}`, not `ready`", peer.name);
        Ok(peer)
    }

    /// The median of one round, in milliseconds.
    ///
    /// # Errors
    /// Where the peer has ended.
    pub fn round(&mut self) -> Result<f64> {
        self.stdin.write_all(b"\n").with_context(|| format!("asking {}", self.name))?;
        let line = self.line()?;
        line.parse().with_context(|| format!("{} said `{line}`", self.name))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("{} ended; its error is above", self.name);
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
