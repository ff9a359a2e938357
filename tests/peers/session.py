"""Times ONNX Runtime on one model: see tests/peers/run.

usage: session.py PEER MODEL.onnx [NAME=1x128…]

Open dimensions that no argument names are 1. Integers are ones, floats uniform between 0 and 1;
an input called `sr` is a sample rate, 16000.
"""

import statistics
import sys
import time

import numpy as np
import onnxruntime

# A round is some ROUND_S seconds, of at least RUNS_MIN runs.
ROUND_S, RUNS_MIN, RUNS_MAX = 1.0, 3, 500
PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-webgpu": "WebGpuExecutionProvider",
}
TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}


def feed(spec, given: dict[str, list[int]], random: np.random.Generator) -> np.ndarray:
    shape = given.get(spec.name, [size if isinstance(size, int) else 1 for size in spec.shape])
    dtype = TYPES[spec.type]
    if spec.name == "sr":
        return np.full(shape, 16000, dtype)
    if dtype == np.float32:
        return random.random(shape, dtype)
    return np.ones(shape, dtype)


def main() -> None:
    peer, model, *shapes = sys.argv[1:]
    given = {}
    for shape in shapes:
        name, _, sizes = shape.partition("=")
        given[name] = [int(size) for size in sizes.split("x")]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=[PROVIDERS[peer]])
    # It falls back to the CPU with no more than a warning.
    if session.get_providers()[0] != PROVIDERS[peer]:
        sys.exit(f"{PROVIDERS[peer]} is not available: {session.get_providers()}")
    random = np.random.default_rng(1)
    inputs = {spec.name: feed(spec, given, random) for spec in session.get_inputs()}

    def run() -> float:
        start = time.perf_counter()
        session.run(None, inputs)
        return (time.perf_counter() - start) * 1e3

    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        first = run()
        runs = min(max(int(ROUND_S * 1e3 / first), RUNS_MIN), RUNS_MAX)
        print(statistics.median(run() for _ in range(runs)), flush=True)


main()
