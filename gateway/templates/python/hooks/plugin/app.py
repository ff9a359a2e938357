"""Lets files in by their kind: any bytes in, {"kind", "bytes"} or a refusal out.

`look` runs before the model and `decide` after it, each in an instance of its own: none is alive
while the model runs.
"""

import json
from array import array

from gw_sdk import Answer, HttpError, Infer, Request, Tensor, config, init, post, pre

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

# The names of the kinds, in the order of the model's scores.
names: list[str] = []


@init
def prepare() -> None:
    """Runs once, when the plugin is built: every request starts with the names in place."""
    with open("/assets/magika.json", encoding="utf-8") as file:
        names.extend(json.load(file)["target_labels_space"])


@pre
def look(request: Request) -> Infer:
    taken = Tensor([1, 2 * END], both_ends(request.body))
    # What `decide` is told of the request: how many bytes it had.
    return Infer(MODEL, {"bytes": taken}, len(request.body))


@post
def decide(size: int, answer: Answer) -> dict[str, object]:
    scores = answer.outputs().read("target_label").expect_dims([1, len(names)]).data
    _, kind = max(zip(scores, names))
    allowed = config.get("allowed") or ""
    if kind not in allowed.split():
        message = f"this is {kind}, and only these kinds are taken: {allowed}"
        raise HttpError(415, "unsupported_kind", message, field="body")
    return {"kind": kind, "bytes": size}


def both_ends(file: bytes) -> "array[int]":
    """What the model takes: the first bytes, and the last, each as a number."""
    first, last = file[:SEEN].lstrip(), file[-SEEN:].rstrip()
    if len(first) < BYTES_MIN:
        message = f"a file needs {BYTES_MIN} bytes behind white space at its start"
        raise HttpError(422, "too_short", message, field="body")
    first, last = first[:END], last[-END:]
    filled = [NOTHING] * (2 * END - len(first) - len(last))
    return array("i", [*first, *filled, *last])
