"""Says what kind of file it is given: any bytes in, the likeliest kinds out."""

import json
from array import array

from gw_sdk import Graph, HttpError, Request, Tensor, handler, init

# The model's name in gw.toml.
MODEL = "magika"
# The model looks at so many bytes of either end, but for white space,
END = 1024
# which is looked for in so many.
SEEN = 4096
# Stands for a byte where a file has none.
NOTHING = 256
# Fewer bytes say nothing.
BYTES_MIN = 8
# How many kinds are answered.
KINDS = 3

# The names of the kinds, in the order of the model's scores.
names: list[str] = []


@init
def prepare() -> None:
    """Runs once, when the plugin is built: every request starts with the names in place."""
    with open("/assets/magika.json", encoding="utf-8") as file:
        names.extend(json.load(file)["target_labels_space"])


@handler
def classify(request: Request) -> dict[str, object]:
    model = Graph.load(MODEL)
    outputs = model.compute({"bytes": Tensor([1, 2 * END], both_ends(request.body))})
    scores = outputs.read("target_label").expect_dims([1, len(names)]).data
    likeliest = sorted(zip(scores, names), reverse=True)[:KINDS]
    return {"kinds": [{"kind": kind, "score": score} for score, kind in likeliest]}


def both_ends(file: bytes) -> "array[int]":
    """What the model takes: the first bytes, and the last, each as a number."""
    first, last = file[:SEEN].lstrip(), file[-SEEN:].rstrip()
    if len(first) < BYTES_MIN:
        message = f"a file needs {BYTES_MIN} bytes behind white space at its start"
        raise HttpError(422, "too_short", message, field="body")
    first, last = first[:END], last[-END:]
    filled = [NOTHING] * (2 * END - len(first) - len(last))
    return array("i", [*first, *filled, *last])
