"""A small neural network on scikit-learn's digits, as ONNX by skl2onnx.

usage: mlp.py MODEL.onnx

X f32[N,64] (8 by 8 pixels from 0 to 16) -> label i64[N], probabilities f32[N,10]. Every fourth row
is kept from the training; the accuracy on those is printed.
"""

import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier


def main() -> None:
    data = load_digits()
    held = np.arange(len(data.target)) % 4 == 0
    pixels = data.data.astype(np.float32)
    network = MLPClassifier((128, 64), random_state=0)
    network.fit(pixels[~held], data.target[~held])
    print(f"accuracy {network.score(pixels[held], data.target[held]):.3f}")
    opsets = {"": 17, "ai.onnx.ml": 3}
    model = to_onnx(network, pixels[:1], options={"zipmap": False}, target_opset=opsets)
    Path(sys.argv[1]).write_bytes(model.SerializeToString())


main()
