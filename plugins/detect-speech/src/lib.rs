//! Where somebody speaks in a sound: a WAV file in, segments in seconds out. Silero VAD hears 32 ms
//! at a time; what it remembers of what came before, the node keeps between the runs.

use std::ops::Range;

use gw_sdk::audio::Audio;
use gw_sdk::nn::{Graph, Tensor};
use gw_sdk::{Body, Error, Json, Query, handler};
use serde::{Deserialize, Serialize};

/// The model's name in `gw.toml`.
const MODEL: &str = "silero-vad";
/// Samples a second, as the model takes them.
const RATE: u32 = 16_000;
/// Samples that the model judges at a time, and those before them that it hears again.
const CHUNK: usize = 512;
const CONTEXT: usize = 64;
/// Speech goes on until its probability is so much below the threshold that begins it.
const HYSTERESIS: f32 = 0.15;
/// Longer sounds belong in several requests: each chunk is a run of the model.
const SECONDS_MAX: f64 = 600.0;

/// What a caller may choose, in the query.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// The probability at which speech begins.
    threshold: f32,
    /// Shorter speech is none, in seconds.
    min_speech: f32,
    /// Shorter silence is a part of the speech around it, in seconds.
    min_silence: f32,
    /// What is added to both ends, in seconds.
    padding: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self { threshold: 0.5, min_speech: 0.25, min_silence: 0.1, padding: 0.03 }
    }
}

impl Options {
    fn check(&self) -> Result<(), Error> {
        let fields = [
            ("threshold", self.threshold, HYSTERESIS..=1.0),
            ("min_speech", self.min_speech, 0.0..=60.0),
            ("min_silence", self.min_silence, 0.0..=60.0),
            ("padding", self.padding, 0.0..=1.0),
        ];
        for (field, value, range) in fields {
            if !range.contains(&value) {
                let message = format!("{value} is not from {} to {}", range.start(), range.end());
                return Err(Error::new(422, "out_of_range", message).field(field));
            }
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Answer {
    model: &'static str,
    /// Of the whole sound, in seconds.
    duration: f32,
    speech: Vec<Segment>,
}

#[derive(Serialize)]
struct Segment {
    start: f32,
    end: f32,
    /// The mean of the probabilities that somebody speaks.
    confidence: f32,
}

#[handler]
fn answer(Query(options): Query<Options>, Body(file): Body) -> Result<Json<Answer>, Error> {
    options.check()?;
    let audio = Audio::decode_wav(&file)?;
    if audio.seconds() > SECONDS_MAX {
        let message = format!("the sound has more than {SECONDS_MAX} s: send it in parts");
        return Err(Error::new(413, "audio_too_long", message).field("body"));
    }
    let samples = audio.resample(RATE)?.samples;
    let heard = probabilities(&samples)?;
    let seconds = |chunks: usize| (chunks * CHUNK) as f32 / RATE as f32;
    let duration = samples.len() as f32 / RATE as f32;
    let segments = segments(&heard, &options);
    // Where two segments are near each other, each gets half of what is between them.
    let between = |at: usize| seconds(segments[at + 1].start - segments[at].end) / 2.0;
    let segment = |(at, chunks): (usize, &Range<usize>)| {
        let before = if at == 0 { f32::MAX } else { between(at - 1) };
        let behind = if at + 1 == segments.len() { f32::MAX } else { between(at) };
        Segment {
            start: (seconds(chunks.start) - options.padding.min(before)).max(0.0),
            end: (seconds(chunks.end) + options.padding.min(behind)).min(duration),
            confidence: heard[chunks.clone()].iter().sum::<f32>() / chunks.len() as f32,
        }
    };
    let speech = segments.iter().enumerate().map(segment).collect();
    Ok(Json(Answer { model: MODEL, duration, speech }))
}

/// How likely it is that somebody speaks, for each chunk.
fn probabilities(samples: &[f32]) -> Result<Vec<f32>, Error> {
    let voice = Graph::load(MODEL)?.context()?;
    let mut input = vec![0.0; CONTEXT + CHUNK];
    let probability = |chunk: &[f32]| {
        // What was the end is now before the beginning; a last chunk ends in silence.
        input.copy_within(CHUNK.., 0);
        input[CONTEXT..].fill(0.0);
        input[CONTEXT..CONTEXT + chunk.len()].copy_from_slice(chunk);
        let input = Tensor::new([1, CONTEXT + CHUNK], input.clone())?;
        let rate = Tensor::new([], [i64::from(RATE)])?;
        let outputs = voice.compute([("input", input.into()), ("sr", rate.into())])?;
        Ok(outputs.read::<f32>("output")?.expect_dims([Some(1), Some(1)])?.as_slice()[0])
    };
    samples.chunks(CHUNK).map(probability).collect()
}

/// The chunks in which somebody speaks, without short pauses and short noises.
fn segments(heard: &[f32], options: &Options) -> Vec<Range<usize>> {
    let chunks = |seconds: f32| (seconds * RATE as f32 / CHUNK as f32).ceil() as usize;
    let (speech_min, silence_min) = (chunks(options.min_speech), chunks(options.min_silence));
    let mut segments: Vec<Range<usize>> = Vec::new();
    let mut speaking = false;
    for (at, &probability) in heard.iter().enumerate() {
        let begins = !speaking && probability >= options.threshold;
        speaking = begins || (speaking && probability >= options.threshold - HYSTERESIS);
        match segments.last_mut() {
            Some(last) if speaking && (!begins || at - last.end < silence_min) => last.end = at + 1,
            _ if begins => segments.push(at..at + 1),
            _ => {}
        }
    }
    segments.retain(|segment| segment.len() >= speech_min);
    segments
}

#[cfg(test)]
mod tests;
