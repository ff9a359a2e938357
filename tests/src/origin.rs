//! A server of files for downloads: slow, so that they can be interrupted, and with ranges, so that
//! they can go on.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What is sent at once.
const PIECE_BYTES: usize = 16 << 10;

/// Files on a real socket, until the process ends.
pub struct Origin {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    sent: Arc<AtomicU64>,
}

impl Origin {
    /// Serves `files` by path, each in pieces of 16 KiB with `pause` between them.
    ///
    /// # Panics
    /// Where there is no port.
    pub fn start(files: HashMap<String, Vec<u8>>, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let sent = Arc::new(AtomicU64::new(0));
        let (files, counter) = (Arc::new(files), Arc::clone(&sent));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (files, counter) = (Arc::clone(&files), Arc::clone(&counter));
                thread::spawn(move || answer(stream, &files, pause, &counter));
            }
        });
        Self { url, sent }
    }

    /// The bytes of files that were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Answers one GET or HEAD.
fn answer(
    mut stream: TcpStream,
    files: &HashMap<String, Vec<u8>>,
    pause: Duration,
    sent: &AtomicU64,
) {
    let Some(Asked { is_head, path, range }) = request(&stream) else { return };
    let Some(body) = files.get(&path) else {
        let _ = write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        return;
    };
    let last = body.len() - 1;
    let (status, from, to) = match range {
        Some((from, to)) if from <= last => ("206 Partial Content", from, to.min(last)),
        Some(_) => ("416 Range Not Satisfiable", 0, 0),
        None => ("200 OK", 0, last),
    };
    let content_range = match range {
        Some(_) => format!("content-range: bytes {from}-{to}/{}\r\n", body.len()),
        None => String::new(),
    };
    let content_type = if path.ends_with('/') {
        "application/vnd.pypi.simple.v1+json"
    } else {
        "application/octet-stream"
    };
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         accept-ranges: bytes\r\netag: \"one\"\r\n{content_range}connection: close\r\n\r\n",
        to + 1 - from,
    );
    let part = if is_head { &[] } else { &body[from..=to] };
    // Nothing is ever sent: the channel is a clock that needs no sleep.
    let (_hold, clock) = mpsc::channel::<()>();
    for piece in part.chunks(PIECE_BYTES) {
        if stream.write_all(piece).is_err() {
            return;
        }
        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        let _ = clock.recv_timeout(pause);
    }
}

/// What was asked for.
struct Asked {
    is_head: bool,
    path: String,
    /// The first and the last byte.
    range: Option<(usize, usize)>,
}

fn request(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (is_head, path) = (words.next()? == "HEAD", words.next()?.to_owned());
    let mut range = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (from, to) = bytes.split_once('-')?;
            range = Some((from.parse().ok()?, to.parse().unwrap_or(usize::MAX)));
        }
    }
    Some(Asked { is_head, path, range })
}
