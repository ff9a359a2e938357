//! WAV files: RIFF chunks, of which `fmt ` and `data` matter.
//!
//! Source: Multimedia Programming Interface and Data Specifications 1.0 (1991), and Microsoft's
//! `WAVEFORMATEXTENSIBLE`.

use super::{Audio, SECONDS_MAX, wrong};
use crate::Error;

/// How one sample is written.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    /// Whole numbers of so many bytes; one byte is unsigned.
    Whole(usize),
    Float32,
    Float64,
}

struct Format {
    encoding: Encoding,
    channels: usize,
    rate: u32,
}

/// More than any file of a studio has.
const CHANNELS_MAX: usize = 64;
/// From telephones to the fastest converters.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

impl Audio {
    /// Reads a WAV file: PCM of 8, 16, 24 or 32 bits, or floats. Several channels become their
    /// mean. Programs that write into a pipe leave the length open, so data may end early.
    ///
    /// # Errors
    /// About the field `body`: 415 `unsupported_audio` where it is no WAV file or is compressed,
    /// 413 `audio_too_long` beyond [`SECONDS_MAX`], 422 `invalid_audio` where it is damaged.
    pub fn decode_wav(file: &[u8]) -> Result<Self, Error> {
        Self::decode_wav_within(file, SECONDS_MAX)
    }

    /// The same with another limit. A second takes 4 bytes a sample, whatever the file took.
    ///
    /// # Errors
    /// As [`Audio::decode_wav`].
    pub fn decode_wav_within(file: &[u8], seconds_max: u32) -> Result<Self, Error> {
        let invalid = |what| wrong(422, "invalid_audio", what);
        let riff = file.get(..4) == Some(b"RIFF") && file.get(8..12) == Some(b"WAVE");
        if !riff {
            return Err(wrong(415, "unsupported_audio", "the file is no WAV file"));
        }
        let mut format = None;
        let mut rest = &file[12..];
        while let Some((head, body)) = rest.split_at_checked(8) {
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let (chunk, next) = body.split_at(length.min(body.len()));
            match &head[..4] {
                b"fmt " => format = Some(Format::read(chunk)?),
                b"data" => {
                    let format = format.ok_or_else(|| invalid("its data come before `fmt `"))?;
                    return format.decode(chunk, seconds_max);
                }
                _ => {}
            }
            // Chunks begin at even places.
            rest = next.get(length % 2..).unwrap_or_default();
        }
        Err(invalid("it has no data"))
    }
}

impl Format {
    fn read(chunk: &[u8]) -> Result<Self, Error> {
        let short = |at: usize| match chunk.get(at..at + 2) {
            Some(bytes) => Ok(u16::from_le_bytes([bytes[0], bytes[1]])),
            None => Err(wrong(422, "invalid_audio", "its `fmt ` is cut off")),
        };
        let (channels, bits) = (usize::from(short(2)?), short(14)?);
        let rate = u32::from(short(4)?) | u32::from(short(6)?) << 16;
        // An extensible format says at its end what it is.
        let tag = match short(0)? {
            0xfffe => short(24)?,
            tag => tag,
        };
        let encoding = match (tag, bits) {
            (1, 8 | 16 | 24 | 32) => Encoding::Whole(usize::from(bits / 8)),
            (3, 32) => Encoding::Float32,
            (3, 64) => Encoding::Float64,
            _ => {
                let message =
                    format!("format {tag} with {bits} bits is not read: save it as PCM of 16 bits");
                return Err(wrong(415, "unsupported_audio", message));
            }
        };
        if !(1..=CHANNELS_MAX).contains(&channels) || !RATES.contains(&rate) {
            let message = format!("{channels} channels of {rate} samples a second are no sound");
            return Err(wrong(422, "invalid_audio", message));
        }
        Ok(Self { encoding, channels, rate })
    }

    fn decode(&self, data: &[u8], seconds_max: u32) -> Result<Audio, Error> {
        let bytes = match self.encoding {
            Encoding::Whole(bytes) => bytes,
            Encoding::Float32 => 4,
            Encoding::Float64 => 8,
        };
        let frames = data.chunks_exact(bytes * self.channels);
        if frames.len() as u64 > u64::from(seconds_max) * u64::from(self.rate) {
            let seconds = frames.len() / self.rate as usize;
            let message = format!("{seconds} s are more than the {seconds_max} s that are read");
            return Err(wrong(413, "audio_too_long", message));
        }
        let channels = self.channels as f32;
        let samples = frames.map(|frame| {
            frame.chunks_exact(bytes).map(|sample| self.encoding.value(sample)).sum::<f32>()
                / channels
        });
        Ok(Audio { rate: self.rate, samples: samples.collect() })
    }
}

impl Encoding {
    fn value(self, sample: &[u8]) -> f32 {
        let value = match (self, sample) {
            (Self::Whole(1), &[byte]) => (f32::from(byte) - 128.0) / 128.0,
            (Self::Whole(_), bytes) => {
                // The topmost bytes of 32 bits, so that the sign is where it belongs.
                let mut whole = [0; 4];
                whole[4 - bytes.len()..].copy_from_slice(bytes);
                i32::from_le_bytes(whole) as f32 / 2_147_483_648.0
            }
            (Self::Float32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            #[allow(clippy::cast_possible_truncation, reason = "samples are single precision")]
            (Self::Float64, &[a, b, c, d, e, f, g, h]) => {
                f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32
            }
            _ => unreachable!("the caller cuts whole samples"),
        };
        // One that is no number would make every result none.
        if value.is_finite() { value } else { 0.0 }
    }
}
