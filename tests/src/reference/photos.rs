//! Photographs that everybody has: those in the data of scikit-image.

use std::path::PathBuf;

use crate::fetch;

/// Their names and digests.
const PHOTOS: [(&str, &str); 6] = [
    ("astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
    ("chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    ("coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    ("motorcycle_left.png", "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179"),
    ("rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
    ("page.png", "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3"),
];

/// The file of a photograph, fetched where it is not in the user's cache.
///
/// # Panics
/// Where it is not listed or cannot be had.
pub fn photo(name: &str) -> PathBuf {
    let (_, sha256) = PHOTOS.iter().find(|(photo, _)| *photo == name).expect("a listed photo");
    let source = format!("pypi:scikit-image==0.26.0#skimage/data/{name}");
    let source = source.parse().expect("a source");
    fetch(&source, Some(&sha256.parse().expect("a digest"))).expect("the photo")
}
