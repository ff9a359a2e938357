"""Inputs of the audio models: a voice made of formant-shaped harmonics, pauses, and a chord.

No package with a recording is needed: what the models do (find speech, notes, a speaker) shows on
these signals too.
"""

from collections.abc import Callable, Iterator

import numpy as np

FORMANTS = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)]  # a i u e
CHORD = (261.63, 329.63, 392.0)  # C, E, G


def voice(seconds: float, rate: int, seed: int) -> np.ndarray:
    """A voice that says four vowels a second, with a pause after every third, and some noise."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = random.uniform(90, 220) * (1 + 0.03 * np.sin(2 * np.pi * 3 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    syllable = (time * 4).astype(int)
    sound = np.zeros_like(time)
    for formants in range(4):
        said = (syllable % 4 == formants) & (syllable % 4 != 3)
        for harmonic in range(1, int(rate / 2 / 240)):
            at = harmonic * pitch
            gain = sum(np.exp(-(((at - f) / 120) ** 2)) for f in FORMANTS[formants]) + 0.02
            sound += said * gain * np.sin(harmonic * phase)
    sound *= np.sin(np.pi * (time * 4 % 1)) ** 0.5 / 4
    return (sound + random.normal(0, 0.003, sound.shape)).astype(np.float32)


def windows(batch: int, rate: int, seed: int) -> np.ndarray:
    """Windows of the VAD with their context: f32[batch, 576] at 16 kHz, f32[batch, 288] at 8."""
    length = 576 if rate == 16000 else 288
    sound = voice(batch * 0.3 + 0.2, rate, seed)
    starts = np.linspace(0, len(sound) - length, batch).astype(int)
    return np.stack([sound[start : start + length] for start in starts])


def silero(shapes: list[tuple[int, int]]) -> Callable:
    """A step from rest and one from the state it left, for each (batch, rate)."""

    def cases(session, packages) -> Iterator[dict]:
        names = [value.name for value in session.get_inputs()]
        for seed, (batch, rate) in enumerate(shapes):
            state = np.zeros((2, batch, 128), np.float32)
            for step in range(2):
                feeds = {"input": windows(batch, rate, seed * 2 + step), "state": state}
                if "sr" in names:
                    feeds["sr"] = np.array(rate, np.int64)
                yield feeds
                (state,) = session.run(["stateN"], feeds)

    return cases


def silero_sequence(session, packages) -> Iterator[dict]:
    """Whole utterances: one window, five, and thirty-one, of 512 samples and 64 before them."""
    for seed, length in enumerate((1, 5, 31)):
        sound = np.pad(voice(length * 512 / 16000, 16000, seed), (64, 0))
        steps = np.stack([sound[at * 512 : at * 512 + 576] for at in range(length)])
        zero = np.zeros((1, 1, 128), np.float32)
        yield {"input": steps, "h": zero, "c": zero}


def basic_pitch(session, packages) -> Iterator[dict]:
    """Two seconds at 22,050 Hz: a chord that decays, single notes, and voices.

    All have the noise of a recording: the model takes logarithms of energies by band, and of a
    band that holds nothing but rounding errors every implementation finds another one.
    """
    random = np.random.default_rng(0)
    (value,) = session.get_inputs()
    time = np.arange(43844) / 22050
    fade = np.exp(-time * 1.5)
    notes = [sum(np.sin(2 * np.pi * f * n * time) / n**2 for n in range(1, 6)) for f in CHORD]
    sounds = [sum(notes) * fade * 0.2, *(note * fade * 0.5 for note in notes)]
    sounds += [voice(43844 / 22050, 22050, seed) for seed in range(4)]
    recorded = [sound + random.normal(0, 0.003, sound.shape) for sound in sounds]
    for batch in (1, 3, 8):
        yield {value.name: np.stack(recorded[:batch])[..., None].astype(np.float32)}


def mels(sound: np.ndarray) -> np.ndarray:
    """Mel energies of a 16 kHz sound as resemblyzer takes them: 25 ms, each 10 ms, 40 bands."""
    edges = 700 * (np.exp(np.linspace(0, np.log(1 + 8000 / 700), 42)) - 1)
    bins = np.fft.rfftfreq(400, 1 / 16000)
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    bank = np.clip(np.minimum(rise, fall), 0, None) * (2 / (edges[2:] - edges[:-2]))[:, None]
    frames = np.lib.stride_tricks.sliding_window_view(sound, 400)[::160] * np.hanning(400)
    return (np.abs(np.fft.rfft(frames)) ** 2 @ bank.T).astype(np.float32)


def resemblyzer(session, packages) -> Iterator[dict]:
    """Partial utterances of 160 frames, and shorter and longer ones."""
    for batch, frames in ((1, 160), (3, 160), (8, 160), (1, 40), (2, 301)):
        sounds = [voice(frames / 100 + 0.03, 16000, seed) for seed in range(batch)]
        yield {"mels": np.stack([mels(sound * 0.3)[:frames] for sound in sounds])}
