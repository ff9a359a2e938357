"""Probabilities of speech by ONNX Runtime, as the reference for examples/02-speech-js.

usage: speech.py MODEL.onnx SOUND.wav > probabilities.json

Writes SOUND.wav, two seconds of a made voice between two seconds of silence each, and prints what
the model says of its samples, chunk by chunk. Needs the PyPI packages in requirements.txt beside
this file.
"""

import json
import sys
import wave

import numpy as np
import onnxruntime
from cases_audio import voice

RATE, CHUNK, OVERLAP = 16000, 512, 64


def main() -> None:
    model, file = sys.argv[1:]
    silence = np.zeros(2 * RATE, np.float32)
    sound = np.concatenate([silence, voice(2, RATE, 0), silence])
    samples = (np.clip(sound, -1, 1) * 32767).astype("<i2")
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, RATE, 0, "NONE", ""))
        out.writeframes(samples.tobytes())

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    length = -(-len(samples) // CHUNK) * CHUNK
    padded = np.zeros(OVERLAP + length, np.float32)
    padded[OVERLAP : OVERLAP + len(samples)] = samples / 32768
    state = np.zeros((2, 1, 128), np.float32)
    probabilities = []
    for start in range(0, length, CHUNK):
        window = padded[None, start : start + OVERLAP + CHUNK]
        feeds = {"input": window, "state": state, "sr": np.array(RATE, np.int64)}
        output, state = session.run(["output", "stateN"], feeds)
        probabilities.append(float(output[0, 0]))
    json.dump(probabilities, sys.stdout)


if __name__ == "__main__":
    main()
