//! The `gw` command as a user meets it: help, exit codes, messages, files.
//!
//! Whole gateways with plugins and models are the business of `tests/suite`.

mod apps;
mod bench;
mod help;
mod keys;
mod models;
mod new;
mod onnx;
mod run;

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What a command said.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    /// The result as JSON.
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// Panics unless the command ended with `code` and said each of `texts` on stderr.
    fn refused(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "{}", self.err);
        for text in texts {
            assert!(self.err.contains(text), "{text:?} is missing in:\n{}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }

    /// Panics unless the command succeeded.
    fn done(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.err);
        self
    }
}

/// A user with nothing: an empty home, no settings.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().expect("temporary paths are text").to_owned()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("made");
        std::fs::write(&path, bytes).expect("written");
        self.path(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gw"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GW_")) {
            command.env_remove(name);
        }
        command
            .args(args)
            .current_dir(self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .env("GW_CACHE_DIR", self.home.path().join("cache"))
            .env("NO_COLOR", "1")
            .env_remove("COLUMNS")
            .stdin(Stdio::null());
        command
    }

    fn gw(&self, args: &[&str]) -> Ended {
        ended(&mut self.command(args))
    }
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().expect("gw starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("gw prints text");
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn exists(path: &str) -> bool {
    Path::new(path).exists()
}
