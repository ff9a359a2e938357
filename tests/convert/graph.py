"""A small writer of ONNX graphs: nodes in the order they are added, weights as initialisers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# What each model says of its inputs and outputs: name, element type, dimensions (text = dynamic).
Value = tuple[str, int, list]
FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64


class Graph:
    """Collects nodes and weights; `add` and `weight` return the name to use as an input."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str, value: Any, dtype: type = np.float32) -> str:
        """A weight, or a constant such as the axes of a Squeeze; kept once per name."""
        if name not in self.weights:
            array = np.ascontiguousarray(np.asarray(value, dtype))
            self.weights[name] = numpy_helper.from_array(array, name)
        return name

    def add(self, op: str, inputs: list[str], output: str, skipped: int = 0, **attributes) -> str:
        """A node; `skipped` outputs before the wanted one are left out."""
        outputs = [""] * skipped + [output]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=output, **attributes))
        return output

    def save(self, file: Path, inputs: list[Value], outputs: list[Value], opset: int) -> None:
        """Checks the model and writes it."""
        graph = helper.make_graph(
            self.nodes,
            file.parent.name or "graph",
            [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info(*value) for value in outputs],
            list(self.weights.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 7  # the oldest that knows these opsets
        model.producer_name = "gw tests/convert"
        onnx.checker.check_model(model, full_check=True)
        file.write_bytes(model.SerializeToString())
