"""Outputs of single operators by ONNX Runtime, for gateway/engine/tests/models/ops/operators.rs.

Where its CPU kernels lack a form, the outputs are those of the same by other operators or by NumPy.

usage: operators.py > gateway/engine/tests/models/ops/operators.json

Floats are made from their names by a formula that the test repeats. Needs the PyPI packages
`onnx` and `onnxruntime`.
"""

import json
import math
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

cases = []


def noise(name: str, dims: list[int]) -> np.ndarray:
    """Floats in [-1, 1): FNV-1a for the seed, then the generator of Numerical Recipes."""
    state = 0x811C9DC5
    for byte in name.encode():
        state = (state ^ byte) * 0x01000193 & 0xFFFFFFFF
    values = []
    for _ in range(math.prod(dims)):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values.append((state >> 8) / (1 << 23) - 1)
    return np.array(values, np.float32).reshape(dims)


def case(
    name,
    op,
    inputs,
    outputs=(0,),
    domain="com.microsoft",
    opset=17,
    known=(),
    due=None,
    **attributes,
):
    """`inputs` are dims of floats, arrays of integers, or None; `known` ones are in the file; `due`
    gives the outputs where ONNX Runtime cannot.
    """
    feeds, recorded = {}, []
    for place, given in enumerate(inputs):
        if given is None:
            recorded.append(None)
            continue
        if isinstance(given, np.ndarray):
            array = given
            values = {"ints": [int(value) for value in given.ravel()]}
        else:
            array, values = noise(f"{name} {place}", given), {}
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        dims = list(array.shape)
        recorded.append({"type": kind, "dims": dims, "known": place in known, **values})
        feeds[f"i{place}"] = array
    if due is None:
        results = run(op, inputs, feeds, outputs, domain, opset, known, attributes)
    else:
        results = due(*feeds.values())
    cases.append(
        {
            "name": name,
            "op": op,
            "domain": domain,
            "opset": opset,
            "attributes": attributes,
            "inputs": recorded,
            "outputs": [
                {
                    "place": place,
                    "dims": list(result.shape),
                    "values": [float(f"{float(value):.6g}") for value in result.ravel()],
                }
                for place, result in zip(outputs, results)
            ],
        }
    )


def run(op, inputs, feeds, outputs, domain, opset, known, attributes):
    """The outputs of one node by ONNX Runtime."""
    named = lambda place: f"o{place}" if place in outputs else ""
    names = ["" if given is None else f"i{place}" for place, given in enumerate(inputs)]
    made = [named(place) for place in range(max(outputs) + 1)]
    node = helper.make_node(op, names, made, domain=domain, **attributes)
    files, declared = [], []
    for name, array in feeds.items():
        if int(name[1:]) in known:
            files.append(onnx.numpy_helper.from_array(array, name))
        else:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            declared.append(helper.make_tensor_value_info(name, kind, array.shape))
    due = [helper.make_empty_tensor_value_info(named(place)) for place in outputs]
    graph = helper.make_graph([node], "graph", declared, due, files)
    opsets = [helper.make_opsetid("", opset)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = {entry.name for entry in session.get_inputs()}
    return session.run(None, {key: value for key, value in feeds.items() if key in given})


def node(op, inputs, outputs=(0,), known=(), **attributes):
    """The outputs of a `com.microsoft` operator of these arrays."""
    feeds = {f"i{place}": array for place, array in enumerate(inputs) if array is not None}
    return run(op, inputs, feeds, outputs, "com.microsoft", 17, known, attributes)


def i32(values) -> np.ndarray:
    return np.array(values, np.int32)


def i64(values) -> np.ndarray:
    return np.array(values, np.int64)


def multi_head() -> None:
    op, q, k, v = "MultiHeadAttention", [2, 3, 8], [2, 5, 8], [2, 5, 12]
    case("heads", op, [q, k, v], num_heads=2)
    case("heads, bias", op, [q, k, v, [28]], num_heads=2, scale=0.3)
    case("heads, lengths", op, [q, k, v, None, i32([3, 5])], num_heads=2)
    ragged = i32([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]])
    case("heads, padding", op, [q, k, v, None, ragged, [1, 2, 3, 5]], num_heads=2)
    none = i32([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    case("heads, nothing but padding", op, [q, k, v, None, none], num_heads=2)
    past = [2, 2, 2, 4]
    inputs = [q, q, q, None, ragged, None, past, past]
    case("heads, past", op, inputs, (0, 1, 2), num_heads=2, unidirectional=1)
    case("heads, keys by head", op, [q, [2, 2, 5, 4], [2, 2, 5, 4], [24]], num_heads=2)

    def unpacked(packed):
        parts = [np.ascontiguousarray(packed[:, :, :, part].reshape(q)) for part in range(3)]
        return node(op, parts, num_heads=2)

    case("heads, packed", op, [[2, 3, 2, 3, 4]], due=unpacked, num_heads=2)


def merged() -> None:
    op, x, weights, bias = "Attention", [2, 3, 5], [5, 24], [24]
    case("merged", op, [x, weights, bias], num_heads=2)
    case("merged, ends and starts", op, [x, weights, bias, i32([2, 3, 1, 0])], num_heads=2)
    case("merged, one mask", op, [x, weights, None, i32([[1], [1]])], num_heads=2)
    cells = i32([[[1, 0, 0], [1, 1, 0], [0, 1, 1]], [[1, 1, 1], [0, 0, 1], [0, 1, 0]]])
    case("merged, cells", op, [x, weights, bias, cells], num_heads=2, mask_filter_value=-3.0)
    past = [2, 2, 2, 2, 4]
    mask = i32([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    inputs = [x, weights, bias, mask, past]
    case("merged, past", op, inputs, (0, 1), num_heads=2, unidirectional=1, scale=0.5)
    sizes = {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 4]}
    case("merged, sizes", op, [x, [5, 20], [20], None, None, [2, 2, 3, 3]], **sizes)


def grouped() -> None:
    table = [16, 8]

    def one(name, length, past, total, last, more=(), packed=False, **attributes):
        q, k = [2, length, 64], [2, length, 32]
        cache = [2, 2, past, 16]
        first = [[2, length, 128], None, None] if packed else [q, k, k]
        inputs = [*first, cache, cache, i32(last), i32(total), *more]
        heads = {"num_heads": 4, "kv_num_heads": 2}
        known = (6,)
        case(name, "GroupQueryAttention", inputs, (0, 1, 2), known=known, **heads, **attributes)

    rotary = {"more": (table, table), "do_rotary": 1}
    one("groups, ragged start", 3, 0, 3, [2, 1], **rotary)
    one("groups, packed", 2, 0, 2, [1, 1], packed=True, rotary_interleaved=1, **rotary)
    one("groups, next", 1, 4, 5, [4, 2], **rotary)
    one("groups, a cache with room", 1, 6, 4, [3, 2], **rotary)
    one("groups, window", 4, 0, 4, [3, 3], local_window_size=2)
    one("groups, window of the next", 1, 4, 5, [4, 3], local_window_size=2)
    one("groups, softcap", 3, 0, 3, [2, 2], softcap=0.5, scale=0.7)
    one("groups, smooth", 2, 0, 2, [1, 1], smooth_softmax=1)
    sink = (None, None, None, [2, 1, 1, 5], [4])
    one("groups, bias and sink", 1, 4, 5, [4, 3], sink)
    one("groups, both ways", 3, 0, 3, [2, 1], causal=0)

    def normed(x, weight):
        rows = x.reshape(*x.shape[:2], -1, 16)
        rows = rows / np.sqrt((rows**2).mean(-1, keepdims=True) + 1e-6) * weight
        return rows.reshape(x.shape).astype(np.float32)

    heads = {"num_heads": 4, "kv_num_heads": 2}

    def after_norms(q, k, v, last, total, q_weight, k_weight):
        inputs = [normed(q, q_weight), normed(k, k_weight), v, None, None, last, total]
        return node("GroupQueryAttention", inputs, (0, 1, 2), (6,), **heads)

    q, k = [2, 3, 64], [2, 3, 32]
    inputs = [q, k, k, None, None, i32([2, 2]), i32(3), *[None] * 7, [16], [16]]
    op = "GroupQueryAttention"
    case("groups, norms", op, inputs, (0, 1, 2), known=(6,), due=after_norms, **heads)


def others() -> None:
    places = i64([[0, 1, 2], [4, 5, 3]])
    case("rotary", "RotaryEmbedding", [[2, 3, 16], places, [8, 4], [8, 4]])
    case("rotary from", "RotaryEmbedding", [[2, 3, 16], i64([2]), [8, 4], [8, 4]], interleaved=1)
    part = {"num_heads": 2, "rotary_embedding_dim": 4}
    case("rotary part", "RotaryEmbedding", [[2, 3, 16], i64([2]), [8, 2], [8, 2]], **part)
    row = [2, 3, 8]
    case("skip", "SkipLayerNormalization", [row, row, [8], [8], [8]], (0, 3))
    case("skip, statistics", "SkipLayerNormalization", [row, row, [8]], (0, 1, 2, 3))
    case("skip of one", "SkipLayerNormalization", [row, [3, 8], [8]], epsilon=0.1)
    case("skip rms", "SkipSimplifiedLayerNormalization", [row, row, [8], [8]], (0, 3))
    words, segments = i32([[1, 3, 2], [0, 1, 1]]), i32([[0, 1, 1], [0, 0, 1]])
    tables = [[5, 8], [4, 8], [2, 8], [8], [8]]
    mask, order = i32([[1, 1, 0], [1, 1, 1]]), i32([[3, 2, 1]])
    embed = "EmbedLayerNormalization"
    case("embed", embed, [words, segments, *tables, mask], (0, 1, 2))
    bare = [words, None, [5, 8], [4, 8], None, [8], [8], None, order]
    case("embed without segments", embed, bare, (0, 1), epsilon=0.01)
    case("quick gelu", "QuickGelu", [[2, 8]], alpha=1.3)
    case("bias gelu", "BiasGelu", [row, [8]])
    case("fast gelu", "FastGelu", [row, [8]])
    for name, values in [("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.5]), ("HardSigmoid", [0.3, 0.4])]:
        chosen = {"activation": name, "activation_params": values}
        case(f"conv {name}", "FusedConv", [[1, 2, 5, 5], [3, 2, 3, 3], [3]], **chosen)
    inputs = [[1, 2, 5, 5], [3, 2, 3, 3], [3], [1, 3, 3, 3]]
    case("conv and sum", "FusedConv", inputs, activation="Relu")
    gemm = {"activation": "LeakyRelu", "activation_alpha": 0.2, "transB": 1, "beta": 2.0}
    case("gemm LeakyRelu", "FusedGemm", [[3, 4], [5, 4], [5]], **gemm)
    turned = {"transA": 1, "transBatchA": 1, "transBatchB": 1, "alpha": 0.5}
    case("turned batches", "FusedMatMul", [[4, 2, 3], [4, 2, 5]], **turned)


def silu(x):
    return x / (1 + np.exp(-x))


def without_cpu() -> None:
    """Forms that only other kernels of ONNX Runtime have."""

    def normed(x, scale, bias):
        rows = x.reshape(2, 6, 2, 2).transpose(0, 2, 1, 3).reshape(2, 2, 12)
        rows = rows - rows.mean(-1, keepdims=True)
        rows = rows / np.sqrt((rows**2).mean(-1, keepdims=True) + 1e-3)
        rows = rows.reshape(2, 2, 6, 2).transpose(0, 2, 1, 3).reshape(x.shape)
        return silu(rows * scale + bias)

    def skipped(x, scale, bias, skip, shift):
        total = x + skip[:, None, None] + shift
        return [normed(total, scale, bias), total]

    row = [2, 3, 2, 4]
    chosen = {"groups": 2, "activation": 1, "epsilon": 1e-3}
    case("group norm", "GroupNorm", [row, [4], [4]], due=lambda *x: [normed(*x)], **chosen)
    inputs = [row, [4], [4], [2, 4], [4]]
    case("skip group norm", "SkipGroupNorm", inputs, (0, 1), due=skipped, **chosen)
    case("bias add", "BiasAdd", [[2, 3, 4], [4], [2, 3, 4]], due=lambda x, y, z: [x + y + z])

    def split_gelu(x, bias):
        left, right = np.split(x + bias, 2, axis=-1)
        return [left * right * 0.5 * (1 + np.vectorize(math.erf)(right / math.sqrt(2)))]

    def softmax(x, bias):
        power = np.exp(x + bias)
        return [power / power.sum(-1, keepdims=True)]

    case("split gelu", "BiasSplitGelu", [[2, 3, 8], [8]], due=split_gelu)
    case("bias softmax", "BiasSoftmax", [[2, 3, 4, 5], [2, 1, 1, 5]], due=softmax, axis=3)


def carried() -> None:
    """The forms that these share with ONNX 27, which ONNX Runtime has in its own domain."""
    inputs = [[2, 3, 16], [2, 3, 8], [2, 3, 12], [2, 2, 4, 6], [2, 3, 8], [2, 3, 1]]
    heads = {"q_num_heads": 4, "kv_num_heads": 2}
    case("linear attention", "LinearAttention", inputs, (0, 1), **heads)
    # More tokens than one dispatch walks: rows of states that matter little, and a short result.
    last = lambda *x: [node("LinearAttention", x, (0, 1), update_rule="gated", **one)[1]]
    one = {"q_num_heads": 1, "kv_num_heads": 1}
    long = [[1, 300, 128], [1, 300, 128], [1, 300, 1], [1, 1, 128, 1], [1, 300, 1]]
    named = {"update_rule": "gated", **one}
    case("long linear attention", "LinearAttention", long, (1,), due=last, **named)
    causal = [[2, 3, 4], [3, 1, 3], [3], [2, 3, 2]]
    case("causal conv", "CausalConvWithState", causal, (0, 1), activation="silu")


def windows(q, k) -> None:
    """Attention of ONNX 25: what its windows hide, version 24 is given as a mask."""

    def one(name, inputs, offset, left=-1, right=-1, **more):
        def due(q, k, v, *rest):
            if len(rest) == 2:
                k, v = (np.concatenate(pair, 2) for pair in zip(rest, (k, v)))
            keys = np.arange(k.shape[2])
            ends = rest[0] if len(rest) == 1 else i64([len(keys)] * 2)
            place = np.reshape(offset, (-1, 1)) + np.arange(q.shape[2])
            distance = keys - place[:, None, :, None]
            size = (2, 1, q.shape[2], len(keys))
            seen = np.broadcast_to(keys < ends[:, None, None, None], size)
            if left >= 0:
                seen = seen & (distance >= -left)
            if right >= 0:
                seen = seen & (distance <= right)
            if more:
                seen = seen & (distance <= 0)
            inputs = [q, k, v, seen]
            feeds = {f"i{place}": array for place, array in enumerate(inputs)}
            return run("Attention", inputs, feeds, (0,), "", 24, (), {})

        sides = {"left_window_size": left, "right_window_size": right}
        case(name, "Attention", inputs, domain="", opset=25, due=due, **sides, **more)

    one("a window", [q, k, k], 0, left=1, right=2)
    one("a window to the left", [q, k, k], 0, left=1, is_causal=1)
    one("no window", [q, k, k], 0)
    past = [2, 2, 4, 8]
    one("a window after a past", [q, k, k, None, past, past], 4, left=3, right=0)
    lengths = [None, None, None, i64([4, 6])]
    one("a window over lengths", [q, k, k, *lengths], [1, 3], left=2, right=1)
    one("a window before lengths", [q, k, k, *lengths], [1, 3], left=1, is_causal=1)


def standard() -> None:
    q, k = [2, 4, 3, 8], [2, 2, 6, 8]
    seen = np.ones((3, 6), bool)
    seen[1] = False
    new = {"domain": "", "opset": 24}
    case("hidden row", "Attention", [q, k, k, seen], **new)
    case("hidden row, capped", "Attention", [q, k, k, seen], softcap=0.5, **new)
    counts = [None, None, None, i64([4, 6])]
    case("lengths", "Attention", [q, k, k, *counts], **new)
    case("causal lengths", "Attention", [q, k, k, *counts], is_causal=1, **new)
    wide, narrow = [1, 2, 3, 300], [1, 2, 4, 5]
    case("long rows", "Attention", [wide, [1, 2, 4, 300], narrow], is_causal=1, **new)
    windows(q, k)
    old = {"domain": "", "opset": 17}
    norm = "LayerNormalization"
    case("weights of rows", norm, [[2, 3, 4], [2, 1, 4], [1, 3, 1]], axis=-1, **old)
    case("no bias", norm, [[2, 3, 4], [3, 4]], (0, 1, 2), axis=1, **old)
    shrunk = {"domain": "", "opset": 9, "bias": 1.5, "lambd": 2.0}
    case("shrink", "Shrink", [i32([-4, -3, -2, -1, 0, 2, 3, 5])], **shrunk)
    case("shrink floats", "Shrink", [[2, 3]], domain="", opset=9, bias=0.25, lambd=0.3)
    case("hardmax", "Hardmax", [[2, 3, 4]], axis=1, domain="", opset=11)
    case("batch of rows", "BatchNormalization", [[2, 3], [3], [3], [3], [3]], **old, epsilon=2.0)
    target = i64([[0, -7, 2, 1], [1, 1, 0, 2]])
    for reduction in ["none", "sum", "mean"]:
        reduced = {"reduction": reduction, "ignore_index": -7, "domain": "", "opset": 13}
        loss = "SoftmaxCrossEntropyLoss"
        case(f"loss {reduction}", loss, [[2, 3, 4], target, [3]], (0, 1), **reduced)


def main() -> None:
    multi_head()
    merged()
    grouped()
    others()
    without_cpu()
    carried()
    standard()
    lines = ",\n".join(json.dumps(entry) for entry in cases)
    sys.stdout.write(f'{{"cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
