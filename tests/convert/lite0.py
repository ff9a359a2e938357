"""EfficientNet-lite0 (torch state, zip layout) as ONNX, opset 13.

usage: lite0.py STATE.pth MODEL.onnx

image f32[N,3,224,224], RGB as (x - 127) / 128 -> probs f32[N,1000], feat f32[N,1280] (the pooled
features, to fit a head of one's own on). Batch norms are folded into the convolutions before them;
padding is TensorFlow's "same", as the network was trained with.
"""

import sys
from pathlib import Path

import numpy as np

import torch_file
from graph import FLOAT, Graph

EPSILON = 1e-3  # of the batch norms, as in the TensorFlow original
# Blocks that halve the image: the first of the stages r2_k3_s2, r2_k5_s2, r3_k3_s2 and r4_k5_s2.
HALVING = {1, 3, 5, 11}
BLOCKS = 16


class Network:
    """Writes the layers of one state."""

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        self.state = state
        self.graph = Graph()

    def conv(self, x: str, conv: str, norm: str, stride: int = 1, clip: bool = True) -> str:
        """Convolution with its batch norm, then ReLU6 unless the layer is linear."""
        weight = self.state[f"{conv}.weight"]
        scale, shift, mean, variance = (
            self.state[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + EPSILON)
        # A depthwise kernel has one input channel, and so one group per output channel.
        depthwise = weight.shape[1] == 1
        y = self.graph.add(
            "Conv",
            [
                x,
                self.graph.weight(f"{conv}.weight", weight * scale[:, None, None, None]),
                self.graph.weight(f"{conv}.bias", shift - mean * scale),
            ],
            conv,
            auto_pad="SAME_UPPER",
            group=weight.shape[0] if depthwise else 1,
            kernel_shape=weight.shape[2:],
            strides=[stride, stride],
        )
        if not clip:
            return y
        limits = [self.graph.weight("zero", 0), self.graph.weight("six", 6)]
        return self.graph.add("Clip", [y, *limits], f"{conv}.relu6")

    def block(self, x: str, index: int) -> str:
        """Expand (but for the first block), filter depthwise, project; add the input if it fits."""
        name, stride, y = f"_blocks.{index}", 2 if index in HALVING else 1, x
        if f"{name}._expand_conv.weight" in self.state:
            y = self.conv(y, f"{name}._expand_conv", f"{name}._bn0")
        y = self.conv(y, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        y = self.conv(y, f"{name}._project_conv", f"{name}._bn2", clip=False)
        before = self.state[f"{name}._depthwise_conv.weight"].shape[0]
        if f"{name}._expand_conv.weight" in self.state:
            before = self.state[f"{name}._expand_conv.weight"].shape[1]
        after = self.state[f"{name}._project_conv.weight"].shape[0]
        return self.graph.add("Add", [y, x], name) if stride == 1 and before == after else y


def main() -> None:
    state, model = map(Path, sys.argv[1:])
    network = Network(torch_file.read(state))
    graph = network.graph
    x = network.conv("image", "_conv_stem", "_bn0", stride=2)
    for index in range(BLOCKS):
        x = network.block(x, index)
    x = network.conv(x, "_conv_head", "_bn1")
    x = graph.add("GlobalAveragePool", [x], "pooled")
    x = graph.add("Flatten", [x], "feat")
    fc = [graph.weight(f"_fc.{part}", network.state[f"_fc.{part}"]) for part in ("weight", "bias")]
    x = graph.add("Gemm", [x, *fc], "logits", transB=1)
    graph.add("Softmax", [x], "probs", axis=1)
    outputs = [("probs", FLOAT, ["N", 1000]), ("feat", FLOAT, ["N", 1280])]
    graph.save(model, [("image", FLOAT, ["N", 3, 224, 224])], outputs, opset=13)


main()
