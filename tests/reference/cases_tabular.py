"""Inputs of the tabular models: rows of the data that scikit-learn ships."""

from collections.abc import Iterator

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits


def _rows(data: np.ndarray) -> Iterator[dict]:
    for start, count in ((0, 1), (20, 3), (100, 8), (200, 57)):
        yield {"X": data[start : start + count].astype(np.float32)}


def breast_cancer(session, packages) -> Iterator[dict]:
    return _rows(load_breast_cancer().data)


def digits(session, packages) -> Iterator[dict]:
    return _rows(load_digits().data)
