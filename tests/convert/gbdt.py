"""Gradient-boosted trees on scikit-learn's breast-cancer data, as ONNX by skl2onnx.

usage: gbdt.py MODEL.onnx

X f32[N,30] -> label i64[N], probabilities f32[N,2]: a TreeEnsembleClassifier of ai.onnx.ml. Every
fourth row is kept from the training; the accuracy on those is printed.
"""

import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier


def main() -> None:
    data = load_breast_cancer()
    held = np.arange(len(data.target)) % 4 == 0
    trees = GradientBoostingClassifier(random_state=0)
    trees.fit(data.data[~held].astype(np.float32), data.target[~held])
    print(f"accuracy {trees.score(data.data[held].astype(np.float32), data.target[held]):.3f}")
    sample = data.data[:1].astype(np.float32)
    opsets = {"": 17, "ai.onnx.ml": 3}
    model = to_onnx(trees, sample, options={"zipmap": False}, target_opset=opsets)
    Path(sys.argv[1]).write_bytes(model.SerializeToString())


main()
