"""Super-resolution of @upscalerjs/esrgan-slim (tfjs layers-model) as ONNX, opset 13.

usage: esrgan.py MODEL.json WEIGHTS.bin MODEL.onnx

LR f32[N,3,H,W], RGB from 0 to 255 -> SR f32[N,3,sH,sW]. The layers are NHWC in the file; here
kernels are turned and channels are axis 1. Any layer other than those below is refused.
"""

import json
import sys
from pathlib import Path

import numpy as np

from graph import FLOAT, Graph


def read_weights(manifest: list[dict], data: bytes) -> dict[str, np.ndarray]:
    """The arrays of the one weight group, which lie one after another."""
    (group,) = manifest
    arrays, at = {}, 0
    for entry in group["weights"]:
        if entry["dtype"] != "float32" or "quantization" in entry:
            raise ValueError(f"{entry['name']} is not plain float32")
        count = int(np.prod(entry["shape"]))
        arrays[entry["name"]] = np.frombuffer(data, "<f4", count, at).reshape(entry["shape"])
        at += count * 4
    if at != len(data):
        raise ValueError(f"the weights take {at} bytes of {len(data)}")
    return arrays


def conv(graph: Graph, name: str, config: dict, weights: dict, inputs: list[str]) -> str:
    """Convolution of stride 1 with an odd kernel: "same" pads half of it on every side."""
    if config["strides"] != [1, 1] or config["activation"] != "linear":
        raise ValueError(f"{name} strides or has an activation")
    kernel = weights[f"{name}/kernel"].transpose(3, 2, 0, 1)
    height, width = (size // 2 if config["padding"] == "same" else 0 for size in kernel.shape[2:])
    parameters = [
        graph.weight(f"{name}/kernel", kernel),
        graph.weight(f"{name}/bias", weights[f"{name}/bias"]),
    ]
    pads = [height, width, height, width]
    return graph.add("Conv", [*inputs, *parameters], name, kernel_shape=kernel.shape[2:], pads=pads)


def upsample(graph: Graph, name: str, config: dict, inputs: list[str]) -> str:
    """Each pixel repeated."""
    scales = graph.weight(f"{name}/scales", [1, 1, *config["size"]])
    return graph.add(
        "Resize",
        [*inputs, "", scales],
        name,
        mode=config["interpolation"],
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def main() -> None:
    description, binary, model = map(Path, sys.argv[1:])
    content = json.loads(description.read_text(encoding="utf-8"))
    network = content["modelTopology"]["model_config"]["config"]
    weights = read_weights(content["weightsManifest"], binary.read_bytes())
    graph = Graph()
    scale = 1
    for layer in network["layers"]:
        kind, name, config = layer["class_name"], layer["name"], layer["config"]
        inputs = [entry[0] for node in layer["inbound_nodes"] for entry in node]
        if kind == "InputLayer":
            source = name
        elif kind == "Conv2D":
            conv(graph, name, config, weights, inputs)
        elif kind == "Activation" and config["activation"] == "relu":
            graph.add("Relu", inputs, name)
        elif kind == "Concatenate" and config["axis"] == 3:
            graph.add("Concat", inputs, name, axis=1)
        elif kind == "Add":
            graph.add("Add", inputs, name)
        elif kind == "UpSampling2D":
            scale = config["size"][0]
            upsample(graph, name, config, inputs)
        else:
            raise ValueError(f"layer {name} is a {kind} that is not known")
    ((result, _node, _tensor),) = network["output_layers"]
    inputs = [(source, FLOAT, ["N", 3, "H", "W"])]
    graph.save(model, inputs, [(result, FLOAT, ["N", 3, f"{scale}*H", f"{scale}*W"])], opset=13)


main()
