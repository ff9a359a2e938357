use gw_sdk::Request;
use gw_sdk::testing::Host;

use super::*;

/// A WAV file of one channel of 16 bits.
fn wav(rate: u32, samples: &[i16]) -> Vec<u8> {
    let bytes = u32::try_from(2 * samples.len()).unwrap();
    let mut file = [&b"RIFF"[..], &(36 + bytes).to_le_bytes(), b"WAVEfmt "].concat();
    file.extend([16u32.to_le_bytes(), 0x0001_0001u32.to_le_bytes(), rate.to_le_bytes()].concat());
    file.extend([(2 * rate).to_le_bytes(), 0x0010_0002u32.to_le_bytes()].concat());
    file.extend([&b"data"[..], &bytes.to_le_bytes()].concat());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

/// A model that hears speech where its 512 samples are loud, and checks the 64 before them.
fn host() -> Host {
    let mut before = vec![0.0; CONTEXT];
    Host::new().model(MODEL, move |inputs| {
        let input = inputs.read::<f32>("input")?.expect_dims([Some(1), Some(CONTEXT + CHUNK)])?;
        assert_eq!(input.as_slice()[..CONTEXT], before);
        before = input.as_slice()[CHUNK..].to_vec();
        assert_eq!(inputs.read::<i64>("sr")?, Tensor::new([], [16_000])?);
        let chunk = &input.as_slice()[CONTEXT..];
        let loudness = chunk.iter().map(|x| x.abs()).sum::<f32>() / CHUNK as f32;
        Ok(vec![("output", Tensor::new([1, 1], [loudness * 2.0])?.into())])
    })
}

/// Chunks that are so loud, as the model above hears them.
fn sound(loudness: &[(usize, f32)]) -> Vec<i16> {
    let chunks = loudness.iter().flat_map(|&(count, loud)| vec![loud; count * CHUNK]);
    chunks.map(|loud| (loud / 2.0 * 32768.0) as i16).collect()
}

fn ask(path: &str, file: Vec<u8>) -> serde_json::Value {
    let response = host().call(answer, Request::new("POST", path).with_body(file));
    serde_json::from_slice(&response.body).unwrap()
}

fn heard(query: &str, loudness: &[(usize, f32)]) -> Vec<[f64; 2]> {
    let answer = ask(&format!("/{query}"), wav(RATE, &sound(loudness)));
    let speech = answer["speech"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let millisecond = |x: &serde_json::Value| (x.as_f64().unwrap() * 1000.0).round();
    speech.iter().map(|s| [millisecond(&s["start"]), millisecond(&s["end"])]).collect()
}

#[test]
fn speech_has_a_beginning_and_an_end_with_padding() {
    assert_eq!(heard("", &[(10, 0.0), (20, 0.9), (10, 0.0)]), [[290.0, 990.0]]);
    assert_eq!(heard("?padding=0", &[(10, 0.0), (20, 0.9), (10, 0.0)]), [[320.0, 960.0]]);
    assert_eq!(heard("", &[(20, 0.9)]), [[0.0, 640.0]], "padding ends with the sound");
}

#[test]
fn it_goes_on_while_it_is_a_little_less_likely() {
    assert_eq!(heard("?padding=0", &[(10, 0.9), (10, 0.4), (10, 0.3)]), [[0.0, 640.0]]);
    assert_eq!(heard("?padding=0", &[(10, 0.4), (10, 0.9), (9, 0.0)]), [[320.0, 640.0]]);
    assert!(heard("?threshold=0.95", &[(30, 0.9)]).is_empty());
}

#[test]
fn short_pauses_and_short_noises_do_not_count() {
    assert_eq!(heard("?padding=0", &[(10, 0.9), (3, 0.0), (10, 0.9)]), [[0.0, 736.0]]);
    let apart = [(10, 0.9), (4, 0.0), (10, 0.9)];
    assert_eq!(heard("?padding=0", &apart), [[0.0, 320.0], [448.0, 768.0]]);
    assert_eq!(heard("?padding=1", &apart), [[0.0, 384.0], [384.0, 768.0]], "half each");
    assert!(heard("", &[(10, 0.0), (7, 0.9), (10, 0.0)]).is_empty());
    assert_eq!(heard("?min_speech=0.2&padding=0", &[(7, 0.9), (10, 0.0)]), [[0.0, 224.0]]);
}

#[test]
fn other_rates_and_open_ends_are_heard() {
    let half = vec![16_000i16; 8_100];
    let answer = ask("/", wav(8_000, &half));
    assert!((answer["duration"].as_f64().unwrap() - 1.0125).abs() < 1e-3, "{answer}");
    assert_eq!(answer["speech"].as_array().unwrap().len(), 1);
    let empty = ask("/", wav(RATE, &[]));
    assert_eq!(empty, serde_json::json!({"model": MODEL, "duration": 0.0, "speech": []}));
}

#[test]
fn what_is_wrong_is_named() {
    let silence = wav(RATE, &[0; 512]);
    let long = wav(1_000, &vec![0; 601_000]);
    let cases = [
        ("/", b"no sound".to_vec(), "unsupported_audio", "body"),
        ("/", long, "audio_too_long", "body"),
        ("/?threshold=2", silence.clone(), "out_of_range", "threshold"),
        ("/?padding=NaN", silence.clone(), "out_of_range", "padding"),
        ("/?min_silence=-1", silence, "out_of_range", "min_silence"),
    ];
    for (path, file, code, field) in cases {
        let error = &ask(path, file)["error"];
        assert_eq!((&error["code"], &error["field"]), (&code.into(), &field.into()), "{path}");
    }
}
