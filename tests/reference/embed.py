"""Embeddings by ONNX Runtime, as the reference for examples/01-embed.

usage: embed.py MODEL.onnx TOKENIZER.json < sentences.json > embeddings.json

Reads a JSON list of strings; each is tokenised, cut at 512 tokens as the plugin does, run alone,
mean-pooled by its mask and normalised in float64. Needs the PyPI packages in requirements.txt beside this file.
"""

import json
import sys

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

# The positions that the model knows.
TOKENS_MAX = 512


def main() -> None:
    model, tokenizer_file = sys.argv[1:]
    tokenizer = Tokenizer.from_file(tokenizer_file)
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS_MAX)
    options = onnxruntime.SessionOptions()
    # A text alone is little work: more threads would spend their time waiting for each other.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    embeddings = []
    for sentence in json.load(sys.stdin):
        encoding = tokenizer.encode(sentence)
        feeds = {
            "input_ids": np.array([encoding.ids], dtype=np.int64),
            "attention_mask": np.array([encoding.attention_mask], dtype=np.int64),
            "token_type_ids": np.array([encoding.type_ids], dtype=np.int64),
        }
        (hidden,) = session.run(["last_hidden_state"], feeds)
        pooled = hidden[0].astype(np.float64).mean(axis=0)
        pooled /= np.linalg.norm(pooled)
        row = {"tokens": len(encoding.ids), "embedding": [round(x, 8) for x in pooled]}
        if encoding.overflowing:
            row["truncated"] = True
        embeddings.append(row)
    json.dump(embeddings, sys.stdout)


if __name__ == "__main__":
    main()
