"""A model with its test data sets, in the layout of ONNX's own backend tests.

    NAME/model.onnx
    NAME/test_data_set_K/input_I.pb, output_J.pb    (TensorProto, in the model's order)

Outputs are ONNX Runtime's with graph optimisations off: they mean what the file says, node by node.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, numpy_helper

Feeds = dict[str, np.ndarray]


def open_session(model: Path) -> onnxruntime.InferenceSession:
    """A session on the CPU that runs the graph as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # errors: warnings about unused initialisers help nobody here
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def write_sets(
    folder: Path,
    session: onnxruntime.InferenceSession,
    cases: Iterable[Feeds],
    expected: list[np.ndarray] | None,
) -> list[str]:
    """Writes a data set per case; `expected` replaces the outputs of the first. Returns shapes."""
    inputs = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]
    shapes = []
    for index, feeds in enumerate(cases):
        results = session.run(outputs, feeds)
        if index == 0 and expected is not None:
            results = expected
        data_set = folder / f"test_data_set_{index}"
        data_set.mkdir()
        for kind, names, values in (
            ("input", inputs, [feeds[name] for name in inputs]),
            ("output", outputs, results),
        ):
            for at, (name, value) in enumerate(zip(names, values, strict=True)):
                write_tensor(data_set / f"{kind}_{at}.pb", name, value)
        shapes.append("x".join(map(str, feeds[inputs[0]].shape)) or "scalar")
    return shapes


def write_tensor(file: Path, name: str, value: np.ndarray) -> None:
    """One tensor, its elements as raw bytes."""
    tensor = numpy_helper.from_array(np.array(value, order="C"), name)
    file.write_bytes(tensor.SerializeToString())


def read_tensor(data: bytes) -> np.ndarray:
    """The tensor that `data`, a serialised TensorProto, holds."""
    return numpy_helper.to_array(TensorProto.FromString(data))


def publish(part: Path, folder: Path) -> None:
    """Makes a finished folder visible at once, so that a folder that is there is complete."""
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
