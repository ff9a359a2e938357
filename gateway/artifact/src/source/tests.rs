//! Fetching from real sockets: resuming, refusing, and files inside packages.

use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::{ByteSize, Digest};

/// How a [`Server`] misbehaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Plain,
    NoRanges,
    /// Ends each connection after so many bytes of a body.
    CutAfter(usize),
    /// Answers 503 to the first requests.
    BusyFor(usize),
    /// Does not say how long a file is.
    NoLength,
}

/// Files by path on a real socket, and the requests that came for them.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(manner: Manner, files: Vec<(String, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, manner, &files, &log);
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    manner: Manner,
    files: &[(String, Vec<u8>)],
    log: &Mutex<Vec<String>>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut path, mut range, mut line) = (String::new(), None, String::new());
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) && line.trim() != "" {
        let lower = line.to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("GET ") {
            path = rest.split(' ').next().unwrap_or_default().to_owned();
        }
        if let Some(bytes) = lower.trim().strip_prefix("range: bytes=") {
            let (from, to) = bytes.split_once('-').unwrap();
            range = Some((from.parse::<usize>().unwrap(), to.parse::<usize>().ok()));
        }
        line.clear();
    }
    let count = {
        let mut log = log.lock().unwrap();
        log.push(format!("{path} {range:?}"));
        log.len()
    };
    if matches!(manner, Manner::BusyFor(first) if count <= first) {
        let _ =
            write!(stream, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    let Some((_, body)) = files.iter().find(|(name, _)| *name == path) else {
        let _ = write!(stream, "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let range = range.filter(|_| !matches!(manner, Manner::NoRanges | Manner::NoLength));
    let (head, part) = match range {
        Some((from, _)) if from >= body.len() => ("416 No".to_owned(), &[][..]),
        Some((from, to)) => {
            let end = to.map_or(body.len(), |to| (to + 1).min(body.len()));
            let range = format!("Content-Range: bytes {from}-{}/{}", end - 1, body.len());
            (format!("206 Partial\r\n{range}"), &body[from..end])
        }
        None => ("200 OK".to_owned(), &body[..]),
    };
    let length = part.len();
    let told = match manner {
        Manner::NoLength => String::new(),
        _ => format!("Content-Length: {length}\r\n"),
    };
    let _ = write!(
        stream,
        "HTTP/1.1 {head}\r\n{told}ETag: \"{}\"\r\nConnection: close\r\n\r\n",
        Digest::of(body).hex(),
    );
    let sent = match manner {
        Manner::CutAfter(bytes) => &part[..bytes.min(length)],
        _ => part,
    };
    let _ = stream.write_all(sent);
}

fn fetcher(cache: &Path, url: &str) -> Fetcher {
    limited(cache, url, 64 << 20)
}

fn limited(cache: &Path, url: &str, bytes_max: u64) -> Fetcher {
    Fetcher::new(FetchConfig {
        cache_dir: cache.to_owned(),
        hf_endpoint: url.to_owned(),
        pypi_index: format!("{url}/simple/"),
        bytes_max: ByteSize(bytes_max),
    })
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn fetch(
    fetcher: &Fetcher,
    source: &str,
    expected: Option<&Digest>,
) -> Result<Fetched, FetchError> {
    fetcher.fetch("file", &source.parse().unwrap(), expected, Path::new(""), &NoProgress)
}

#[test]
fn a_connection_that_breaks_again_and_again_still_brings_the_file() {
    let body = noise(300_000);
    let server = Server::start(Manner::CutAfter(90_000), vec![("/f".into(), body.clone())]);
    let cache = tempfile::tempdir().unwrap();
    let fetcher = fetcher(cache.path(), &server.url);
    let source = format!("{}/f", server.url);
    let fetched = fetch(&fetcher, &source, Some(&Digest::of(&body))).unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), body);
    let starts = ["(0, None)", "(90000, None)", "(180000, None)", "(270000, None)"];
    let expected: Vec<_> = starts.iter().map(|start| format!("/f Some({start})")).collect();
    assert_eq!(server.requests(), expected, "each byte was sent once");
    fetch(&fetcher, &source, Some(&Digest::of(&body))).unwrap();
    fetch(&fetcher, &source, None).unwrap();
    assert_eq!(server.requests().len(), 4 + 4, "a source without a digest is asked once");
    fetch(&fetcher, &source, None).unwrap();
    assert_eq!(server.requests().len(), 8);
}

#[test]
fn an_earlier_download_is_continued_and_a_changed_file_is_not_spliced() {
    let (old, new) = (noise(200_000), noise(210_000).into_iter().rev().collect::<Vec<_>>());
    let cache = tempfile::tempdir().unwrap();
    for (body, requests) in [(old, 1), (new, 1)] {
        let server = Server::start(Manner::Plain, vec![("/f".into(), body.clone())]);
        let source: Source = "hf:org/repo/f".parse().unwrap();
        // As an ended process leaves it: half of the file, and what it is half of.
        let key = Digest::of(source.to_string().as_bytes()).hex();
        let url = format!("{}/org/repo/resolve/main/f", server.url);
        let server =
            Server::start(Manner::Plain, vec![("/org/repo/resolve/main/f".into(), body.clone())]);
        let url = url.replace(&url[..url.find("/org").unwrap()], &server.url);
        let folder = cache.path().join("partial");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{key}.part")), &body[..100_000]).unwrap();
        for (etag, from) in [(Digest::of(&body).hex(), 100_000), ("other".to_owned(), 0)] {
            std::fs::write(folder.join(format!("{key}.part")), &body[..100_000]).unwrap();
            let remote = format!("{{\"url\":\"{url}\",\"start\":0,\"length\":null}}");
            let description = format!("{{\"remote\":{remote},\"version\":\"\\\"{etag}\\\"\"}}");
            std::fs::write(folder.join(format!("{key}.json")), description).unwrap();
            let _ = std::fs::remove_dir_all(cache.path().join("blobs"));
            let before = server.requests().len();
            let fetcher = fetcher(cache.path(), &server.url);
            let fetched = fetch(&fetcher, "hf:org/repo/f", Some(&Digest::of(&body))).unwrap();
            assert_eq!(fetched.bytes, body.len() as u64);
            let asked = server.requests()[before..].to_vec();
            assert!(asked[0].ends_with("Some((100000, None))"), "{asked:?}");
            assert_eq!(asked.len() > requests, from == 0, "{asked:?}");
        }
    }
    assert_eq!(std::fs::read_dir(cache.path().join("partial")).unwrap().count(), 1, "the lock");
}

#[test]
fn a_busy_server_is_asked_again_and_an_absent_file_is_not() {
    let server = Server::start(Manner::BusyFor(2), vec![("/f".into(), b"hello".to_vec())]);
    let cache = tempfile::tempdir().unwrap();
    let fetcher = fetcher(cache.path(), &server.url);
    let fetched = fetch(&fetcher, &format!("{}/f", server.url), None).unwrap();
    assert_eq!((fetched.bytes, fetched.digest), (5, Digest::of(b"hello")));
    let error = fetch(&fetcher, &format!("{}/nothing", server.url), None).unwrap_err();
    assert!(error.to_string().contains("answers 404: there is no such file"), "{error}");
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn another_file_than_expected_is_refused_and_leaves_nothing() {
    let server = Server::start(Manner::Plain, vec![("/f".into(), b"hello".to_vec())]);
    let cache = tempfile::tempdir().unwrap();
    let fetcher = fetcher(cache.path(), &server.url);
    let expected = Digest::of(b"something else");
    let error = fetch(&fetcher, &format!("{}/f", server.url), Some(&expected)).unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.contains(&expected.hex()) && shown.contains(&Digest::of(b"hello").hex()),
        "{shown}"
    );
    assert_eq!(std::fs::read_dir(cache.path().join("blobs")).unwrap().count(), 0);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m"), b"hello").unwrap();
    let source: Source = "m".parse().unwrap();
    let local =
        |expected: &Digest| fetcher.fetch("m", &source, Some(expected), folder.path(), &NoProgress);
    assert!(matches!(local(&expected), Err(FetchError::Digest { .. })));
    assert_eq!(local(&Digest::of(b"hello")).unwrap().path, folder.path().join("m"));
}

#[test]
fn a_damaged_file_of_the_cache_is_fetched_anew() {
    let server = Server::start(Manner::Plain, vec![("/f".into(), b"hello".to_vec())]);
    let cache = tempfile::tempdir().unwrap();
    let source = format!("{}/f", server.url);
    let digest = Digest::of(b"hello");
    let path = fetch(&fetcher(cache.path(), &server.url), &source, Some(&digest)).unwrap().path;
    std::fs::write(&path, b"hellO").unwrap();
    let again = fetch(&fetcher(cache.path(), &server.url), &source, Some(&digest)).unwrap();
    assert_eq!(std::fs::read(again.path).unwrap(), b"hello");
}

/// A wheel with `member`, deflated or stored, behind other files.
fn wheel(member: &str, bytes: &[u8], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in [("pkg/other.bin", &noise(200_000)[..]), (member, bytes)] {
        writer.start_file(name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn index(wheel: &[u8], file: &str) -> Vec<u8> {
    let sha256 = Digest::of(wheel).hex();
    let hashes = format!("{{\"sha256\":\"{sha256}\"}}");
    let entry =
        format!("{{\"filename\":\"{file}\",\"url\":\"/files/{file}\",\"hashes\":{hashes}}}");
    format!("{{\"files\":[{entry}],\"versions\":[\"1.0\"]}}").into_bytes()
}

#[test]
fn a_file_inside_a_wheel_comes_without_the_wheel() {
    let model: Vec<u8> = b"a model that compresses ".repeat(5_000);
    let file = "my_pkg-1.0-py3-none-any.whl";
    for (manner, method, whole) in [
        (Manner::Plain, zip::CompressionMethod::Deflated, false),
        (Manner::Plain, zip::CompressionMethod::Stored, false),
        (Manner::NoRanges, zip::CompressionMethod::Deflated, true),
    ] {
        let wheel = wheel("pkg/model.onnx", &model, method);
        let files = vec![
            ("/simple/my-pkg/".to_owned(), index(&wheel, file)),
            (format!("/files/{file}"), wheel),
        ];
        let server = Server::start(manner, files);
        let cache = tempfile::tempdir().unwrap();
        let fetcher = fetcher(cache.path(), &server.url);
        let source = "pypi:my.pkg==1.0#pkg/model.onnx";
        let fetched = fetch(&fetcher, source, Some(&Digest::of(&model))).unwrap();
        assert_eq!(std::fs::read(fetched.path).unwrap(), model);
        let last = server.requests().pop().unwrap();
        assert_eq!(last.ends_with("Some((0, None))"), whole, "{last}");

        let error = fetch(&fetcher, "pypi:my.pkg==1.0#pkg/modle.onnx", None).unwrap_err();
        assert!(error.to_string().contains("it has: pkg/model.onnx"), "{error}");
        let error = fetch(&fetcher, "pypi:my.pkg==2.0#pkg/model.onnx", None).unwrap_err();
        assert!(error.to_string().contains("it has: 1.0"), "{error}");
    }
}

#[test]
fn an_empty_file_inside_a_wheel_comes_and_a_damaged_one_does_not() {
    let file = "my_pkg-1.0-py3-none-any.whl";
    for (content, damaged) in [(&b""[..], false), (&b"some words of a model"[..], true)] {
        let mut wheel = wheel("pkg/model.onnx", content, zip::CompressionMethod::Stored);
        if damaged {
            let at = wheel.windows(content.len()).position(|part| part == content).unwrap();
            wheel[at] ^= 1;
        }
        let files = vec![
            ("/simple/my-pkg/".to_owned(), index(&wheel, file)),
            (format!("/files/{file}"), wheel),
        ];
        let server = Server::start(Manner::Plain, files);
        let cache = tempfile::tempdir().unwrap();
        let fetcher = fetcher(cache.path(), &server.url);
        let outcome = fetch(&fetcher, "pypi:my.pkg==1.0#pkg/model.onnx", None);
        assert_eq!(outcome.is_err(), damaged, "{outcome:?}");
        let blobs = std::fs::read_dir(cache.path().join("blobs")).unwrap().count();
        assert_eq!(blobs, usize::from(!damaged));
    }
}

/// A source archive with `member`, behind another file.
fn sdist(member: &str, bytes: &[u8]) -> Vec<u8> {
    let packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut tar = tar::Builder::new(packed);
    for (name, bytes) in [("pkg-1.0/README", &b"read me"[..]), (member, bytes)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn a_file_inside_a_source_archive_is_found() {
    let archive = sdist("pkg-1.0/pkg/model.onnx", b"hello");
    let file = "pkg-1.0.tar.gz";
    let files = vec![
        ("/simple/pkg/".to_owned(), index(&archive, file)),
        (format!("/files/{file}"), archive),
    ];
    let server = Server::start(Manner::Plain, files);
    let cache = tempfile::tempdir().unwrap();
    let fetched =
        fetch(&fetcher(cache.path(), &server.url), "pypi:pkg==1.0#pkg/model.onnx", None).unwrap();
    assert_eq!(std::fs::read(fetched.path).unwrap(), b"hello");
}

#[test]
fn a_file_over_the_limit_is_refused_whether_its_length_is_told_or_not() {
    let body = noise(100_000);
    for manner in [Manner::Plain, Manner::NoLength] {
        let server = Server::start(manner, vec![("/f".into(), body.clone())]);
        let cache = tempfile::tempdir().unwrap();
        let source = format!("{}/f", server.url);
        let error = fetch(&limited(cache.path(), &server.url, 99_999), &source, None).unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");
        let shown = error.to_string();
        for told in [&*source, "99999B", "GW_FETCH_BYTES_MAX"] {
            assert!(shown.contains(told), "{told} is missing in: {shown}");
        }
        assert_eq!(server.requests().len(), 1, "it is not asked again");
        let left = std::fs::read_dir(cache.path().join("partial")).unwrap().count();
        assert_eq!(left, 1, "nothing but the lock is left");
        let fetched = fetch(&limited(cache.path(), &server.url, 100_000), &source, None).unwrap();
        assert_eq!(fetched.bytes, 100_000);
    }
}

#[test]
fn a_package_that_unpacks_to_more_than_the_limit_is_refused() {
    let zeros = vec![0; 2_000_000];
    let deflated = wheel("pkg/model.onnx", &zeros, zip::CompressionMethod::Deflated);
    let archive = sdist("pkg-1.0/pkg/model.onnx", &zeros);
    let before = sdist("pkg-1.0/zeros", &zeros);
    let cases = [
        (Manner::Plain, "my_pkg-1.0-py3-none-any.whl", &deflated),
        (Manner::NoRanges, "my_pkg-1.0-py3-none-any.whl", &deflated),
        (Manner::Plain, "my_pkg-1.0.tar.gz", &archive),
        (Manner::Plain, "my_pkg-1.0.tar.gz", &before),
    ];
    for (manner, file, package) in cases {
        let files = vec![
            ("/simple/my-pkg/".to_owned(), index(package, file)),
            (format!("/files/{file}"), package.clone()),
        ];
        let server = Server::start(manner, files);
        let cache = tempfile::tempdir().unwrap();
        // More than any of the packages takes, and less than what is inside.
        let fetcher = limited(cache.path(), &server.url, 1_000_000);
        let error = fetch(&fetcher, "pypi:my.pkg==1.0#pkg/model.onnx", None).unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { .. }), "{file}: {error}");
        let shown = error.to_string();
        assert!(shown.contains(file) && shown.contains("1MB"), "{shown}");
        let blobs = cache.path().join("blobs");
        let blobs = std::fs::read_dir(blobs).map_or(0, Iterator::count);
        assert_eq!(blobs, 0, "{file}: nothing is left");
    }
}

#[test]
fn a_password_in_a_url_is_never_shown() {
    let package = sdist("pkg-1.0/pkg/model.onnx", b"hello");
    let files = vec![
        ("/simple/pkg/".to_owned(), index(&package, "pkg-1.0.tar.gz")),
        ("/simple/noise/".to_owned(), b"no index".to_vec()),
        ("/f".to_owned(), b"hello".to_vec()),
    ];
    let server = Server::start(Manner::Plain, files);
    let cache = tempfile::tempdir().unwrap();
    let url = server.url.replace("http://", "http://me:secret@");
    let fetcher = limited(cache.path(), &url, 100);
    let other = Digest::of(b"another");
    let cases = [
        ("pypi:pkg==1.0#pkg/model.onnx".to_owned(), None),
        ("pypi:pkg==2.0#pkg/model.onnx".to_owned(), None),
        ("pypi:absent==1.0#pkg/model.onnx".to_owned(), None),
        ("pypi:noise==1.0#pkg/model.onnx".to_owned(), None),
        ("hf:org/repo#absent".to_owned(), None),
        (format!("{url}/f"), Some(&other)),
        (format!("{}/absent?token=secret", server.url), None),
        ("https://me:secret@/no host".to_owned(), None),
        ("https://me:secret@host:port/".to_owned(), None),
    ];
    for (source, expected) in cases {
        let error = fetch(&fetcher, &source, expected).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("secret"), "{source}: {shown}");
    }
    let error = "htps://me:secret@host/f".parse::<Source>().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    assert_eq!(fetch(&fetcher, &format!("{url}/f"), None).unwrap().bytes, 5);
}

#[test]
fn a_download_that_is_not_whole_yet_keeps_no_password_and_goes_on() {
    let body = noise(100_000);
    let source = |url: &str| format!("{}/f?token=secret", url.replace("//", "//me:secret@"));
    let files = || vec![("/f?token=secret".to_owned(), body.clone())];
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(Manner::CutAfter(0), files());
    fetch(&fetcher(cache.path(), &server.url), &source(&server.url), None).unwrap_err();
    let mut descriptions = 0;
    for entry in std::fs::read_dir(cache.path().join("partial")).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains("secret"), "{}: {text}", path.display());
        descriptions += usize::from(text.contains("***@127.0.0.1"));
    }
    assert_eq!(descriptions, 1);
    let server = Server::start(Manner::CutAfter(60_000), files());
    let fetched = fetch(&fetcher(cache.path(), &server.url), &source(&server.url), None).unwrap();
    assert_eq!(fetched.digest, Digest::of(&body));
    let requests = server.requests();
    assert!(requests[1].ends_with("Some((60000, None))"), "{requests:?}");
}

#[test]
fn sources_read_as_people_write_them() {
    let hf = Source::Hf { repo: "o/r".into(), revision: "main".into(), file: "a/b.onnx".into() };
    assert_eq!("hf:o/r#a/b.onnx".parse(), Ok(hf.clone()));
    assert_eq!("hf:o/r/a/b.onnx".parse(), Ok(hf));
    let file = Source::File { path: "models/m.onnx".into() };
    assert_eq!("file:models/m.onnx".parse(), Ok(file.clone()));
    assert_eq!("models/m.onnx".parse(), Ok(file));
    for bad in [
        "",
        "pypi:pkg",
        "pypi:pkg==1",
        "pypi:==1#m",
        "pypi:a b==1#m",
        "hf:repo",
        "hf:a/../c#f",
        "hf:a/b@#f",
        "ftp://host/file",
        "oci:registry/x",
        "file:",
        "a\nb",
    ] {
        assert!(bad.parse::<Source>().is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn the_text_of_a_source_reads_back(
        package in "[a-z][a-z0-9._-]{0,12}",
        version in "[0-9][0-9a-z.+]{0,8}",
        member in "[a-zA-Z0-9_./-]{1,24}",
    ) {
        let file = member.clone();
        let sources = [
            Source::Pypi { package: package.clone(), version: version.clone(), member },
            Source::Hf { repo: format!("org/{package}"), revision: version, file },
        ];
        for source in sources {
            let file_of_dots = source.to_string().contains("/..@");
            prop_assume!(!file_of_dots);
            prop_assert_eq!(source.to_string().parse(), Ok(source));
        }
    }
}
