//! Whatever the bytes are, importing them gives a model or an error.
#![no_main]

use bytes::Bytes;
use gw_engine::Model;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let _ = Model::parse(Bytes::copy_from_slice(file), "fuzz");
});
