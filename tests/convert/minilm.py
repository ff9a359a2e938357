"""all-MiniLM-L6-v2 (BERT, safetensors) as fp32 ONNX, opset 14.

usage: minilm.py MODEL.safetensors MODEL.onnx

input_ids, attention_mask, token_type_ids i64[batch,sequence] -> last_hidden_state
f32[batch,sequence,384]. Opset 14 has no LayerNormalization and no Gelu: both are written out.
"""

import json
import sys
from pathlib import Path

import numpy as np

from graph import FLOAT, INT64, Graph

LAYERS, HEADS, WIDTH = 6, 12, 384
EPSILON = 1e-12  # layer_norm_eps of its config.json
MASKED = -1e4  # added to the score of a padded position: e to this power is 0 in float32


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 tensors of the file: a JSON header of offsets, then the bytes."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if entry.get("dtype") == "F32":
            first, end = entry["data_offsets"]
            array = np.frombuffer(data[start + first : start + end], "<f4")
            tensors[name] = array.reshape(entry["shape"])
    return tensors


class Bert:
    """Writes the layers; names of weights are those of the file."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.tensors = tensors
        self.graph = Graph()

    def ints(self, *values: int) -> str:
        return self.graph.weight(f"ints{values}", values, np.int64)

    def linear(self, x: str, name: str) -> str:
        weight = self.graph.weight(f"{name}.weight", self.tensors[f"{name}.weight"].T)
        bias = self.graph.weight(f"{name}.bias", self.tensors[f"{name}.bias"])
        product = self.graph.add("MatMul", [x, weight], f"{name}.product")
        return self.graph.add("Add", [product, bias], name)

    def layer_norm(self, x: str, name: str, output: str = "") -> str:
        """(x - mean) / sqrt(variance + epsilon) * weight + bias, over the last axis."""
        add, weight = self.graph.add, self.graph.weight
        mean = add("ReduceMean", [x], f"{name}.mean", axes=[-1])
        centred = add("Sub", [x, mean], f"{name}.centred")
        square = add("Mul", [centred, centred], f"{name}.square")
        variance = add("ReduceMean", [square], f"{name}.variance", axes=[-1])
        raised = add("Add", [variance, weight("epsilon", EPSILON)], f"{name}.raised")
        deviation = add("Sqrt", [raised], f"{name}.deviation")
        unit = add("Div", [centred, deviation], f"{name}.unit")
        gain = weight(f"{name}.weight", self.tensors[f"{name}.weight"])
        bias = weight(f"{name}.bias", self.tensors[f"{name}.bias"])
        scaled = add("Mul", [unit, gain], f"{name}.scaled")
        return add("Add", [scaled, bias], output or name)

    def gelu(self, x: str, name: str) -> str:
        """x / 2 * (1 + erf(x / sqrt 2))."""
        add, weight = self.graph.add, self.graph.weight
        scaled = add("Div", [x, weight("root2", 2**0.5)], f"{name}.scaled")
        erf = add("Erf", [scaled], f"{name}.erf")
        factor = add("Add", [erf, weight("one", 1)], f"{name}.factor")
        return add("Mul", [add("Mul", [x, factor], f"{name}.twice"), weight("half", 0.5)], name)

    def heads(self, x: str, name: str, perm: list[int]) -> str:
        """[batch, sequence, width] split into heads and transposed."""
        split = self.graph.add(
            "Reshape", [x, self.ints(0, 0, HEADS, WIDTH // HEADS)], f"{name}.split"
        )
        return self.graph.add("Transpose", [split], f"{name}.heads", perm=perm)

    def embed(self) -> str:
        """Words, token types and positions, summed and normed."""
        add, name = self.graph.add, "embeddings"
        words, types, places = (
            self.graph.weight(f"{name}.{part}", self.tensors[f"{name}.{part}_embeddings.weight"])
            for part in ("word", "token_type", "position")
        )
        shape = add("Shape", ["input_ids"], "shape")
        length = add("Gather", [shape, self.ints(1)], "length")
        place = add("Slice", [places, self.ints(0), length, self.ints(0)], f"{name}.place")
        word = add("Gather", [words, "input_ids"], f"{name}.words")
        kind = add("Gather", [types, "token_type_ids"], f"{name}.types")
        both = add("Add", [word, kind], f"{name}.both")
        return self.layer_norm(add("Add", [both, place], f"{name}.sum"), f"{name}.LayerNorm")

    def mask(self) -> str:
        """0 where a position counts and MASKED where not: [batch, 1, 1, sequence]."""
        add = self.graph.add
        mask = add("Unsqueeze", ["attention_mask", self.ints(1, 2)], "mask.wide")
        mask = add("Cast", [mask], "mask.float", to=FLOAT)
        mask = add("Sub", [self.graph.weight("one", 1), mask], "mask.padded")
        return add("Mul", [mask, self.graph.weight("masked", MASKED)], "mask")

    def layer(self, x: str, mask: str, index: int, output: str) -> str:
        add, name = self.graph.add, f"encoder.layer.{index}"
        attention = f"{name}.attention"
        query, key, value = (
            self.heads(self.linear(x, f"{attention}.self.{part}"), f"{attention}.{part}", perm)
            for part, perm in (
                ("query", [0, 2, 1, 3]),
                ("key", [0, 2, 3, 1]),
                ("value", [0, 2, 1, 3]),
            )
        )
        root = self.graph.weight("root", (WIDTH // HEADS) ** 0.5)
        scores = add("MatMul", [query, key], f"{attention}.products")
        scores = add("Div", [scores, root], f"{attention}.scores")
        scores = add("Add", [scores, mask], f"{attention}.masked")
        shares = add("Softmax", [scores], f"{attention}.shares", axis=-1)
        mixed = add("MatMul", [shares, value], f"{attention}.mixed")
        mixed = add("Transpose", [mixed], f"{attention}.turned", perm=[0, 2, 1, 3])
        mixed = add("Reshape", [mixed, self.ints(0, 0, WIDTH)], f"{attention}.joined")
        mixed = self.linear(mixed, f"{attention}.output.dense")
        x = add("Add", [mixed, x], f"{attention}.residual")
        x = self.layer_norm(x, f"{attention}.output.LayerNorm")
        y = self.linear(x, f"{name}.intermediate.dense")
        y = self.linear(self.gelu(y, f"{name}.gelu"), f"{name}.output.dense")
        return self.layer_norm(
            add("Add", [y, x], f"{name}.residual"), f"{name}.output.LayerNorm", output
        )


def main() -> None:
    weights, model = map(Path, sys.argv[1:])
    bert = Bert(read_safetensors(weights))
    x, mask = bert.embed(), bert.mask()
    for index in range(LAYERS):
        x = bert.layer(x, mask, index, "last_hidden_state" if index == LAYERS - 1 else "")
    shape = ["batch", "sequence"]
    names = ("input_ids", "attention_mask", "token_type_ids")
    outputs = [(x, FLOAT, [*shape, WIDTH])]
    bert.graph.save(model, [(name, INT64, shape) for name in names], outputs, opset=14)


main()
