use super::*;

const CHIRP: &[u8] = include_bytes!("../../tests/data/chirp.wav");

fn chunk(name: &[u8], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [name, &length.to_le_bytes(), body].concat()
}

fn format(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let frame = channels * bits / 8;
    let mut format = Vec::new();
    format.extend([tag.to_le_bytes(), channels.to_le_bytes()].concat());
    format.extend([rate.to_le_bytes(), rate.wrapping_mul(u32::from(frame)).to_le_bytes()].concat());
    format.extend([frame.to_le_bytes(), bits.to_le_bytes()].concat());
    chunk(b"fmt ", &format)
}

fn wav(chunks: &[Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.concat();
    let length = u32::try_from(chunks.len() + 4).unwrap();
    [b"RIFF".to_vec(), length.to_le_bytes().to_vec(), b"WAVE".to_vec(), chunks].concat()
}

#[test]
fn every_encoding_gives_the_same_samples() {
    let samples: [(u16, u16, Vec<u8>); 6] = [
        (1, 8, vec![128, 64, 192]),
        (1, 16, [0i16, -16384, 16384].map(i16::to_le_bytes).concat()),
        (1, 24, [[0, 0, 0], [0, 0, 0xc0], [0, 0, 0x40]].concat()),
        (1, 32, [0i32, -(1 << 30), 1 << 30].map(i32::to_le_bytes).concat()),
        (3, 32, [0f32, -0.5, 0.5].map(f32::to_le_bytes).concat()),
        (3, 64, [0f64, -0.5, 0.5].map(f64::to_le_bytes).concat()),
    ];
    for (tag, bits, data) in samples {
        let file = wav(&[format(tag, 1, 8000, bits), chunk(b"data", &data)]);
        let audio = Audio::decode_wav(&file).unwrap();
        assert_eq!(audio, Audio { rate: 8000, samples: vec![0.0, -0.5, 0.5] }, "{tag} {bits}");
    }
}

#[test]
fn channels_become_their_mean_and_other_chunks_are_skipped() {
    let data = [16384i16, -16384, 16384, 0].map(i16::to_le_bytes).concat();
    let file = wav(&[
        chunk(b"LIST", b"odd"),
        vec![0],
        format(1, 2, 44_100, 16),
        chunk(b"fact", &[0; 4]),
        chunk(b"data", &data),
        chunk(b"LIST", b"end!"),
    ]);
    assert_eq!(Audio::decode_wav(&file).unwrap().samples, [0.0, 0.25]);
}

#[test]
fn an_extensible_format_says_at_its_end_what_it_is() {
    let mut extensible = format(0xfffe, 1, 8000, 16)[8..].to_vec();
    extensible.extend([22, 0, 16, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 16, 0]);
    let data = chunk(b"data", &16384i16.to_le_bytes());
    let file = wav(&[chunk(b"fmt ", &extensible), data]);
    assert_eq!(Audio::decode_wav(&file).unwrap().samples, [0.5]);
}

#[test]
fn a_length_that_a_pipe_left_open_ends_with_the_file() {
    let mut file = wav(&[format(1, 1, 8000, 16), chunk(b"data", &[0, 64, 0, 64, 7])]);
    let at = file.len() - 9;
    file[at..at + 4].fill(0xff);
    assert_eq!(Audio::decode_wav(&file).unwrap().samples, [0.5, 0.5]);
}

#[test]
fn hostile_files_are_refused_with_a_reason() {
    let data = || chunk(b"data", &[0; 8]);
    let cases = [
        ("nothing", vec![], 415, "unsupported_audio"),
        ("a text", b"RIFF....AVI ".to_vec(), 415, "unsupported_audio"),
        ("no data", wav(&[format(1, 1, 8000, 16)]), 422, "invalid_audio"),
        ("no format", wav(&[data()]), 422, "invalid_audio"),
        ("half a format", wav(&[chunk(b"fmt ", &[1, 0, 1, 0]), data()]), 422, "invalid_audio"),
        ("compressed", wav(&[format(85, 1, 8000, 16), data()]), 415, "unsupported_audio"),
        ("odd bits", wav(&[format(1, 1, 8000, 12), data()]), 415, "unsupported_audio"),
        ("no channel", wav(&[format(1, 0, 8000, 16), data()]), 422, "invalid_audio"),
        ("many channels", wav(&[format(1, 4000, 8000, 16), data()]), 422, "invalid_audio"),
        ("no rate", wav(&[format(1, 1, 0, 16), data()]), 422, "invalid_audio"),
        ("any rate", wav(&[format(1, 1, u32::MAX, 16), data()]), 422, "invalid_audio"),
        (
            "eleven minutes",
            wav(&[format(1, 1, 1000, 8), chunk(b"data", &vec![128; 660_000])]),
            413,
            "audio_too_long",
        ),
    ];
    for (what, file, status, code) in cases {
        let error = Audio::decode_wav(&file).expect_err(what);
        assert_eq!((error.status, error.code.as_str()), (status, code), "{what}: {error}");
        assert_eq!(error.field.as_deref(), Some("body"), "{what}");
    }
    let error = Audio::decode_wav_within(CHIRP, 0).unwrap_err();
    assert_eq!(error.message, "0 s are more than the 0 s that are read");
    for end in 0..CHIRP.len() {
        // Whatever it says, it does not panic.
        let _ = Audio::decode_wav(&CHIRP[..end]);
    }
    let bad = [f32::NAN, f32::INFINITY, 0.5].map(f32::to_le_bytes).concat();
    let file = wav(&[format(3, 1, 8000, 32), chunk(b"data", &bad)]);
    assert_eq!(Audio::decode_wav(&file).unwrap().samples, [0.0, 0.0, 0.5]);
}

#[test]
fn other_rates_agree_with_scipy() {
    let cases = [
        (16_000, include_bytes!("../../tests/data/chirp-16000.f32").as_slice()),
        (48_000, include_bytes!("../../tests/data/chirp-48000.f32").as_slice()),
    ];
    for (rate, expected) in cases {
        let given = Audio::decode_wav(CHIRP).unwrap().resample(rate).unwrap();
        let expected: Vec<f32> = expected
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        assert_eq!((given.rate, given.samples.len()), (rate, expected.len()));
        assert!(expected.iter().any(|sample| sample.abs() > 0.5), "it is no silence");
        for (at, (given, expected)) in given.samples.iter().zip(&expected).enumerate() {
            assert!((given - expected).abs() < 2e-6, "{rate}, {at}: {given} and {expected}");
        }
    }
}

#[test]
fn a_rate_that_is_none_or_has_no_common_measure_is_refused() {
    let audio = |rate| Audio { rate, samples: vec![0.5; 10] };
    for (from, to) in [(16_000, 0), (0, 16_000), (700_001, 699_999)] {
        assert_eq!(audio(from).resample(to).unwrap_err().code, "wrong_rate", "{from} to {to}");
    }
    assert_eq!(audio(16_000).resample(16_000).unwrap(), audio(16_000));
    let nothing = Audio { rate: 44_100, samples: vec![] };
    assert!(nothing.resample(16_000).unwrap().samples.is_empty());
}
