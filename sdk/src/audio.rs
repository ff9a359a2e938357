//! Sound: from a WAV file to the samples that a model takes.
//!
//! ```no_run
//! use gw_sdk::audio::Audio;
//! use gw_sdk::nn::Tensor;
//! use gw_sdk::{Body, Error, handler};
//!
//! #[handler]
//! fn seconds(Body(file): Body) -> Result<String, Error> {
//!     let audio = Audio::decode_wav(&file)?.resample(16_000)?;
//!     let seconds = audio.samples.len() / 16_000;
//!     let _input = Tensor::new([1, audio.samples.len()], audio.samples)?;
//!     Ok(seconds.to_string())
//! }
//! ```

use crate::Error;

mod resample;
mod wav;

/// One channel of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    /// Samples a second.
    pub rate: u32,
    /// The samples, from -1 to 1.
    pub samples: Vec<f32>,
}

/// Sound of more seconds belongs in several requests, unless [`Audio::decode_wav_within`] says
/// otherwise: ten minutes of 16 kHz take 37 MiB here.
pub const SECONDS_MAX: u32 = 600;

impl Audio {
    /// How long it takes.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate.max(1))
    }
}

fn wrong(status: u16, code: &str, message: impl Into<String>) -> Error {
    Error::new(status, code, message).field("body")
}

#[cfg(test)]
mod tests;
