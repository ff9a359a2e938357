"""Hidden states of the embedding model by ONNX Runtime, for gateway/engine/tests/models.

usage: minilm.py MODEL.onnx > gateway/engine/tests/models/minilm.json

Inputs are made by a formula that the test repeats; of each output some hundred values are kept.
Needs the PyPI packages in requirements.txt beside this file.
"""

import json
import sys

import numpy as np
import onnxruntime

CASES = [(1, 1), (1, 16), (2, 7), (3, 32), (1, 128), (8, 24)]
KEPT = 150


def main() -> None:
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    cases = []
    for batch, seq in CASES:
        at = np.arange(batch * seq).reshape(batch, seq)
        row, column = at // seq, at % seq
        feeds = {
            "input_ids": (at * 7919 + 101) % 30522,
            "attention_mask": (column < seq - row * 3 % seq).astype(np.int64),
            "token_type_ids": (column >= seq // 2).astype(np.int64),
        }
        (hidden,) = session.run(["last_hidden_state"], feeds)
        step = hidden.size // KEPT | 1
        values = [round(float(value), 7) for value in hidden.ravel()[::step]]
        cases.append({"batch": batch, "seq": seq, "step": step, "values": values})
    json.dump({"cases": cases}, sys.stdout)
    print()


main()
