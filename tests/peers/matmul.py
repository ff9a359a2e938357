"""Writes matmul.onnx beside this file: c = a b, of any sizes.

Needs the PyPI packages in tests/reference/requirements.txt.
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def tensor(name: str, *shape: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


inputs = [tensor("a", "m", "k"), tensor("b", "k", "n")]
node = helper.make_node("MatMul", ["a", "b"], ["c"])
graph = helper.make_graph([node], "matmul", inputs, [tensor("c", "m", "n")])
opset = helper.make_opsetid("", 17)
model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
onnx.save(model, Path(__file__).with_suffix(".onnx"))
