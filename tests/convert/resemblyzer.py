"""Resemblyzer's speaker encoder (torch checkpoint, legacy layout) as ONNX, opset 13.

usage: resemblyzer.py CHECKPOINT.pt MODEL.onnx

mels f32[N,frames,40] (160 frames are 1.6 s) -> embedding f32[N,256]: three LSTM layers, the last
hidden state through a linear layer and ReLU, divided by its length.
"""

import sys
from pathlib import Path

import numpy as np

import torch_file
from graph import FLOAT, Graph

HIDDEN = 256


def gates(value: np.ndarray) -> np.ndarray:
    """From torch's order (input, forget, cell, output) to ONNX's (input, output, forget, cell)."""
    i, f, c, o = np.split(value, 4)
    return np.concatenate([i, o, f, c])


def main() -> None:
    checkpoint, model = map(Path, sys.argv[1:])
    state = torch_file.read(checkpoint)["model_state"]
    graph = Graph()
    x = graph.add("Transpose", ["mels"], "steps", perm=[1, 0, 2])
    for layer in range(3):
        w, r, wb, rb = (
            gates(state[f"lstm.{part}_l{layer}"])
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        weights = [
            graph.weight(f"lstm.{layer}.w", w[None]),
            graph.weight(f"lstm.{layer}.r", r[None]),
            graph.weight(f"lstm.{layer}.b", np.concatenate([wb, rb])[None]),
        ]
        # Every layer but the last hands on all its steps; of the last, the final state counts.
        last = layer == 2
        y = graph.add("LSTM", [x, *weights], f"lstm.{layer}", int(last), hidden_size=HIDDEN)
        axis = graph.weight("last_axis" if last else "axis", [0 if last else 1], np.int64)
        x = graph.add("Squeeze", [y, axis], f"lstm.{layer}.steps")
    weight = graph.weight("linear.weight", state["linear.weight"])
    bias = graph.weight("linear.bias", state["linear.bias"])
    x = graph.add("Gemm", [x, weight, bias], "linear", transB=1)
    x = graph.add("Relu", [x], "positive")
    length = graph.add("ReduceL2", [x], "length", axes=[1], keepdims=1)
    graph.add("Div", [x, length], "embedding")
    inputs = [("mels", FLOAT, ["N", "frames", 40])]
    graph.save(model, inputs, [("embedding", FLOAT, ["N", HIDDEN])], opset=13)


main()
