//! A gateway in a process of its own, and a client for it.
#![expect(clippy::print_stderr, reason = "a failing test shows what the gateway said")]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{gw_binary, repo};

/// Long enough to build a plugin on two busy cores; a gateway that needs more is broken.
const START_MAX: Duration = Duration::from_secs(400);

/// A running `gw dev` or `gw serve`, killed when dropped.
pub struct Gateway {
    child: Child,
    lines: Mutex<Receiver<String>>,
    log: Arc<Mutex<String>>,
    /// `http://127.0.0.1:PORT` of the routes.
    pub url: String,
    /// `http://127.0.0.1:PORT` of the admin listener; empty for `gw dev`.
    pub admin: String,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The value of a header; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error}: not JSON: {}", self.body))
    }

    /// The milliseconds of one entry of `Server-Timing`.
    pub fn timing(&self, entry: &str) -> Option<f64> {
        let header = self.header("server-timing");
        let part = header.split(',').map(str::trim).find(|part| part.starts_with(entry))?;
        part.split(';').find_map(|field| field.trim().strip_prefix("dur="))?.parse().ok()
    }
}

/// `gw` with the given arguments, with nothing inherited that would change its answers.
pub fn gw(args: &[&str]) -> Command {
    let mut command = Command::new(gw_binary());
    command.args(args).current_dir(repo()).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs `gw` to its end: exit code, stdout, stderr.
pub fn run(args: &[&str]) -> (i32, String, String) {
    run_with(args, &[])
}

/// The same, with variables of the environment.
///
/// # Panics
/// As [`run`].
pub fn run_with(args: &[&str], envs: &[(&str, PathBuf)]) -> (i32, String, String) {
    let envs = envs.iter().map(|(name, value)| (name, value));
    let output = gw(args).envs(envs).output().expect("gw starts");
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

impl Gateway {
    /// `gw dev APP` on a free port, once it serves.
    pub fn dev(app: &Path, args: &[&str]) -> Self {
        let app = app.to_str().expect("paths of the repository are text");
        let mut command = gw(&["dev", app, "--listen", "127.0.0.1:0"]);
        command.args(args);
        Self::start(command)
    }

    /// `gw serve` on free ports with a state directory that trusts `key`.
    pub fn serve(state: &Path, trusted: &str, args: &[&str]) -> Self {
        let state = state.to_str().expect("temporary paths are text");
        let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let mut command = gw(&["serve", "--state", state, "--trust", trusted]);
        command.args(listen).args(args);
        Self::start(command)
    }

    /// `command`, which is `gw dev` or `gw serve`, once it serves.
    ///
    /// # Panics
    /// Where it never does; the message has all that it printed.
    pub fn start(mut command: Command) -> Self {
        let admin_expected = command.get_args().any(|arg| arg == "serve");
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gw starts");
        let (tx, lines) = mpsc::channel();
        let log = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("stdout is piped")),
            Box::new(child.stderr.take().expect("stderr is piped")),
        ];
        for stream in streams {
            let (tx, log) = (tx.clone(), Arc::clone(&log));
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    log.lock().expect("no reader panics").extend([line.as_str(), "\n"]);
                    // A gateway that nobody listens to still has to be drained.
                    let _ = tx.send(line);
                }
            });
        }
        let mut gateway =
            Self { child, lines: Mutex::new(lines), log, url: String::new(), admin: String::new() };
        gateway.url = gateway.wait_for_url("listening on ");
        if admin_expected {
            gateway.admin = gateway.wait_for_url("admin on ");
        }
        gateway
    }

    fn wait_for_url(&mut self, marker: &str) -> String {
        let line = self.wait_for(marker);
        let rest = line.split(marker).nth(1).unwrap_or_default();
        rest.split_whitespace().next().unwrap_or_default().trim_end_matches('/').to_owned()
    }

    /// The next line of output that contains `text`.
    pub fn wait_for(&mut self, text: &str) -> String {
        let end = Instant::now() + START_MAX;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.get_mut().expect("no reader panics").recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("gw never said {text:?}; it said:\n{}", self.log())
                }
            }
        }
    }

    /// Everything that was printed so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no reader panics").clone()
    }

    /// GET of a path.
    pub fn get(&self, path: &str) -> Answer {
        send("GET", &format!("{}{path}", self.url), None)
    }

    /// POST of a JSON text to a path.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        send("POST", &format!("{}{path}", self.url), Some(body.as_bytes()))
    }

    /// One sample of `/metrics`, summed over the label sets that contain all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let samples = self.get("/metrics").body;
        samples
            .lines()
            .filter(|line| {
                line.starts_with(name) && labels.iter().all(|label| line.contains(label))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, at once.
    pub fn kill(&mut self) {
        self.child.kill().expect("the gateway was running");
        self.child.wait().expect("a killed process ends");
    }

    /// SIGTERM, then the exit code.
    pub fn terminate(&mut self) -> i32 {
        self.signal("-TERM");
        self.child.wait().expect("gw ends").code().unwrap_or(-1)
    }

    /// Sends a signal such as `-TERM`.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill exists").success());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may be gone already: a test that ended it has checked how.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- gw said ---\n{}", self.log());
        }
    }
}

/// One request; every status is an answer.
pub fn send(method: &str, url: &str, body: Option<&[u8]>) -> Answer {
    try_send(method, url, body).unwrap_or_else(|error| panic!("{method} {url}: {error}"))
}

/// One request.
///
/// # Errors
/// Those of the connection; every status is an answer.
pub fn try_send(method: &str, url: &str, body: Option<&[u8]>) -> Result<Answer, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_mins(2)))
        .build()
        .into();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", "application/json");
    let response = match body {
        Some(body) => agent.run(request.body(body).map_err(|error| error.to_string())?),
        None => agent.run(request.body(()).map_err(|error| error.to_string())?),
    };
    let mut response = response.map_err(|error| error.to_string())?;
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    Ok(Answer { status, headers, body })
}
