//! A node on which models load, are evicted, fail and are left, until what it holds at rest is
//! known.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gw_artifact::Digest;
use tokio::time::timeout;

use super::load::{Connection, post};
use super::site::pause;
use crate::figures::{Row, dispatches, process, say};
use crate::gateway::{Gateway, gw};
use crate::guests;
use crate::random::Random;

/// Equal but for their names, so that any of them may take the place of another.
const MODELS: usize = 5;
/// Of host memory, in files of these models: less than all of them and more than one, however much
/// a backend makes of a file.
const ROOM: u64 = 3;
/// Clients, each with one request on its way.
const CLIENTS: usize = 8;
/// The load stops this often, so that what stays can be seen. The first time is the warm-up.
const PARTS: u32 = 8;
/// Longer than threads and models stay that nobody needs.
const REST: Duration = Duration::from_secs(12);
/// A node that is at rest frees what it will free within this time.
const REST_MAX: Duration = Duration::from_mins(1);
const PATIENCE: Duration = Duration::from_mins(1);

/// What a node holds while nobody asks anything.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// Resident memory.
    pub resident_kib: u64,
    /// Open files and sockets.
    pub handles: u64,
    /// Threads.
    pub threads: u64,
    /// Tasks of the asynchronous runtime.
    pub tasks: f64,
}

impl Rest {
    /// Whether there is more of anything but memory than there was.
    fn exceeds(&self, before: &Self) -> bool {
        self.handles > before.handles || self.threads > before.threads || self.tasks > before.tasks
    }
}

/// How a soak went.
#[derive(Debug)]
pub struct Soak {
    /// Behind each part of it, the first of which is the warm-up.
    pub rests: Vec<Rest>,
    /// Requests that were answered as they should be.
    pub answered: usize,
    /// Those that ended by an error of a model or a plugin, as was asked for.
    pub failed: usize,
    /// Clients that left.
    pub left: usize,
    /// Models that were loaded.
    pub loads: f64,
}

impl Soak {
    /// Runs one of about this length, on the CPU.
    ///
    /// # Errors
    /// Where something else happened than was asked for, or a model is in memory at the end.
    pub fn run(length: Duration) -> Result<Self> {
        let app = tempfile::tempdir()?;
        let gateway = start(app.path())?;
        let part = (length / PARTS).saturating_sub(REST).max(Duration::from_secs(3));
        let parts = length.as_secs() / (part + REST).as_secs();
        let mut soak = Self { rests: Vec::new(), answered: 0, failed: 0, left: 0, loads: 0.0 };
        for index in 0..parts.clamp(2, PARTS.into()) {
            let told = load(&gateway.url, part, index)?;
            soak.answered += told.answered.load(Ordering::Relaxed);
            soak.failed += told.failed.load(Ordering::Relaxed);
            soak.left += told.left.load(Ordering::Relaxed);
            let rest = soak.rest(&gateway)?;
            say(&format!("{} answered, {} failed: {rest:?}", soak.answered, soak.failed));
            soak.rests.push(rest);
        }
        soak.loads = gateway.metric("gw_model_loads_total", &["outcome=\"ok\""]);
        let failed = gateway.metric("gw_model_loads_total", &["outcome=\"failed\""]);
        ensure!(failed > 0.0, "a damaged file was loaded again");
        Ok(soak)
    }

    /// Waits until the node has freed what nobody needs, or as long as that may take.
    fn rest(&self, gateway: &Gateway) -> Result<Rest> {
        let process = gateway.process().to_string();
        let begun = Instant::now();
        pause(REST);
        loop {
            let rest = Rest {
                resident_kib: process::resident_kib(&process)?,
                handles: process::handles(&process)?,
                threads: process::threads(&process)?,
                tasks: gateway.metric("gw_tasks", &[]),
            };
            let bytes = gateway.metric("gw_model_bytes", &[]);
            let waiting = gateway.metric("gw_queue_depth", &[]);
            let more = self.rests.first().is_some_and(|first| rest.exceeds(first));
            if bytes == 0.0 && waiting == 0.0 && !more {
                return Ok(rest);
            }
            if begun.elapsed() > REST_MAX {
                ensure!(bytes == 0.0, "{bytes} bytes of models are held for nobody");
                ensure!(waiting == 0.0, "{waiting} requests wait for nobody");
                return Ok(rest);
            }
            pause(Duration::from_secs(1));
        }
    }

    /// Resident memory at the end over that behind the warm-up.
    pub fn growth(&self) -> f64 {
        let [first, last] = self.ends();
        last.resident_kib as f64 / first.resident_kib as f64
    }

    /// As [`Self::growth`], along the straight line that is nearest to all rests: one that was
    /// unlucky decides nothing.
    pub fn trend(&self) -> f64 {
        let kib: Vec<f64> = self.rests.iter().map(|rest| rest.resident_kib as f64).collect();
        let [middle, mean] =
            [(kib.len() - 1) as f64 / 2.0, kib.iter().sum::<f64>() / kib.len() as f64];
        let offsets = || (0..kib.len()).map(|index| index as f64 - middle);
        let rise: f64 = offsets().zip(&kib).map(|(offset, kib)| offset * (kib - mean)).sum();
        let slope = rise / offsets().map(|offset| offset * offset).sum::<f64>();
        let begin = mean - slope * middle;
        (begin + 2.0 * slope * middle) / begin
    }

    /// Whether no handle, thread or task is there that was not there behind the warm-up.
    pub fn is_steady(&self) -> bool {
        let [first, last] = self.ends();
        !last.exceeds(&first)
    }

    fn ends(&self) -> [Rest; 2] {
        [self.rests[0], self.rests[self.rests.len() - 1]]
    }
}

/// So long as `GW_SOAK` says, such as `2h`; 30 minutes where it says nothing.
pub(in super::super) fn row() -> Result<Row> {
    let length = std::env::var("GW_SOAK").unwrap_or_else(|_| "30m".to_owned());
    let length = gw_artifact::duration::parse(&length).context("GW_SOAK is a length of time")?;
    let soak = Soak::run(length)?;
    let [first, last] = soak.ends();
    say(&format!(
        "{} loads, {} clients left; {:.3}x along the line",
        soak.loads,
        soak.left,
        soak.trend()
    ));
    Ok(Row {
        key: "soak",
        ours: last.resident_kib as f64 / 1024.0,
        peer: Some(first.resident_kib as f64 / 1024.0),
        ratio: Some(soak.growth()),
        unit: "MiB",
        runs: soak.rests.len(),
        bar: "<= 1.05x, flat",
        holds: soak.growth() <= 1.05 && soak.trend() <= 1.05 && soak.is_steady(),
    })
}

/// A node with more models than fit, of which none stays long.
fn start(folder: &Path) -> Result<Gateway> {
    let file = std::fs::read(dispatches::model("lite0")?)?;
    let mut app = "[app]\nname = \"soak\"\nversion = \"1.0.0\"\n".to_owned();
    let mut names = Vec::new();
    for index in 0..MODELS {
        let name = format!("lite0-{index}");
        std::fs::write(folder.join(&name), [file.clone(), note(&name)].concat())?;
        write!(app, "[[model]]\nname = \"{name}\"\nsource = \"{name}\"\n")
            .expect("memory takes it");
        names.push(format!("\"{name}\""));
    }
    let picky = dispatches::model("ocr-det")?;
    write!(app, "[[model]]\nname = \"picky\"\nsource = \"{picky}\"\n").expect("memory takes it");
    names.push("\"picky\"".to_owned());
    let damaged = [file.clone(), note("damaged")].concat();
    std::fs::write(folder.join("damaged"), &damaged)?;
    app.push_str("[[model]]\nname = \"damaged\"\nsource = \"damaged\"\n");
    names.push("\"damaged\"".to_owned());
    for (name, guest, models) in
        [("script", "nn-script", names.join(", ")), ("moody", "moody", String::new())]
    {
        let wasm = guests::component(guest);
        write!(
            app,
            "[[plugin]]\nname = \"{name}\"\npath = \"{}\"\nmodels = [{models}]\n\
             [[route]]\npath = \"/{name}\"\nplugins = [\"{name}\"]\n",
            wasm.display()
        )
        .expect("memory takes it");
    }
    std::fs::write(folder.join("gw.toml"), app)?;
    let config = folder.join("gateway.toml");
    let room = ROOM * file.len() as u64;
    // Nobody is refused here: a slow machine takes its time to load.
    std::fs::write(
        &config,
        format!(
            "[inference]\nmemory_max = {room}\nkeep_alive = \"2s\"\nwait_max = \"1m\"\n\
             [deploy]\nquarantine_failures = 0\n"
        ),
    )?;
    let config = config.to_str().context("a temporary path is text")?;
    let app = folder.to_str().context("a temporary path is text")?;
    let own = folder.join("own");
    std::fs::create_dir(&own)?;
    let mut command = gw(&["dev", app, "--listen", "127.0.0.1:0", "--no-watch", "--device", "cpu"]);
    command.args(["--config", config]).env("TMPDIR", &own);
    let gateway = Gateway::start(command);
    // It was sound when it was deployed, and cannot be loaded again.
    let name = format!("{}.onnx", Digest::of(&damaged).hex());
    let copy = find(&own, &name)?.context("the node keeps the models of an app")?;
    std::fs::write(copy, "damaged")?;
    Ok(gateway)
}

/// The file of this name in a folder or in those inside it.
fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() { find(&path, name)? } else { Some(path) };
        if let Some(path) = found.filter(|path| path.ends_with(name)) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// An entry of a model's metadata, as it may follow a file: other bytes, and the same model.
fn note(text: &str) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).expect("a note is short");
        [&[tag, length], bytes].concat()
    };
    let entry = [field(0x0a, b"name"), field(0x12, text.as_bytes())].concat();
    field(0x72, &entry)
}

/// What became of the requests of one part.
#[derive(Default)]
struct Told {
    answered: AtomicUsize,
    failed: AtomicUsize,
    left: AtomicUsize,
}

/// Everything at once, for so long.
fn load(url: &str, length: Duration, seed: u64) -> Result<Arc<Told>> {
    let told = Arc::new(Told::default());
    let address: Arc<str> = url.trim_start_matches("http://").into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let clients = (0..CLIENTS).map(|index| {
            let random = Random(seed * 1000 + index as u64);
            tokio::spawn(client(Arc::clone(&address), length, random, Arc::clone(&told)))
        });
        for client in clients.collect::<Vec<_>>() {
            client.await??;
        }
        anyhow::Ok(())
    })?;
    Ok(told)
}

async fn client(
    address: Arc<str>,
    length: Duration,
    mut random: Random,
    told: Arc<Told>,
) -> Result<()> {
    let begun = Instant::now();
    let mut connection = Connection::default();
    while begun.elapsed() < length {
        let what = random.below(11);
        // The detector adds what it has halved and doubled again: other sizes than multiples of
        // 32 do not fit.
        let model = format!("lite0-{}", random.below(MODELS));
        let (path, body, due) = match what {
            0 => ("/moody", "panic".to_owned(), "plugin_trapped"),
            1 => ("/script", ask("picky", "x", 40), "RuntimeError"),
            10 => ("/script", ask("damaged", "image", 224), "RuntimeError"),
            2 => ("/script", ask("picky", "x", 64), "sigmoid_0.tmp_0=1"),
            _ => ("/script", ask(&model, "image", 224), "probs=1\tfeat=2"),
        };
        let patience = match what {
            9 => Duration::from_millis(random.below(50) as u64),
            _ => PATIENCE,
        };
        let request = post(path, None, body.as_bytes());
        let Ok(answer) = timeout(patience, connection.exchange(&address, &request)).await else {
            ensure!(what == 9, "{path} gave no answer in {PATIENCE:?}");
            told.left.fetch_add(1, Ordering::Relaxed);
            connection = Connection::default();
            continue;
        };
        let answer = answer.with_context(|| format!("asking {path}"))?;
        let text = String::from_utf8_lossy(connection.bytes());
        // The damaged one answers until it leaves memory for the first time.
        let is_whole = what == 10 && text.contains("feat=2");
        ensure!(
            is_whole || text.contains(due),
            "{path} was to answer {due:?}, and answered {text}"
        );
        let fails = matches!(what, 0 | 1 | 10) && !is_whole;
        let count = if fails { &told.failed } else { &told.answered };
        count.fetch_add(1, Ordering::Relaxed);
        if answer.closes {
            connection = Connection::default();
        }
    }
    Ok(())
}

/// A script that runs a model on an image of zeros.
fn ask(model: &str, input: &str, size: usize) -> String {
    let bytes = 4 * 3 * size * size;
    format!(
        "graph\t{model}\ncontext\t0\ntensor\tFP32\t1,3,{size},{size}\tzeros*{bytes}\n\
         compute\t0\t{input}\t0"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soak(kib: &[u64]) -> Soak {
        let rest = |&resident_kib: &u64| Rest { resident_kib, handles: 9, threads: 5, tasks: 7.0 };
        let rests = kib.iter().map(rest).collect();
        Soak { rests, answered: 0, failed: 0, left: 0, loads: 0.0 }
    }

    #[test]
    fn a_trend_is_that_of_the_nearest_line() {
        assert!((soak(&[100, 110, 120]).trend() - 1.2).abs() < 1e-9);
        assert!((soak(&[100, 100, 130, 100, 100]).trend() - 1.0).abs() < 1e-9);
        assert!((soak(&[100, 110, 120]).growth() - 1.2).abs() < 1e-9);
    }

    #[test]
    fn one_of_anything_more_is_not_steady() {
        let more: [fn(&mut Rest); 3] =
            [|rest| rest.handles += 1, |rest| rest.threads += 1, |rest| rest.tasks += 1.0];
        for more in more {
            let mut soak = soak(&[100, 100]);
            assert!(soak.is_steady());
            more(&mut soak.rests[1]);
            assert!(!soak.is_steady());
        }
    }
}
