"""Prints gateway/engine/src/ops/attributes.rs: the attributes of the operators that the engine has.

usage: attributes.py OPS.md > attributes.rs

The names are those of ONNX 1.22 (all versions of an operator), those of ONNX 1.23 that the engine
reads too, and of ONNX Runtime 1.32 for com.microsoft. The engine refuses an attribute that is not
among them: it means something newer.
"""

import re
import sys
import textwrap
from pathlib import Path

import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as runtime


# ONNX 1.23, whose wheel has no node tests.
NEWER = {"Attention": {"left_window_size", "right_window_size"}}


def known() -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        full = f"{schema.domain}.{schema.name}" if schema.domain else schema.name
        names.setdefault(full, set()).update(schema.attributes)
    for name, attributes in NEWER.items():
        names[name].update(attributes)
    for schema in runtime.get_all_operator_schema():
        if schema.domain == "com.microsoft":
            names.setdefault(f"{schema.domain}.{schema.name}", set()).update(schema.attributes)
    return names


def main() -> None:
    page = Path(sys.argv[1]).read_text()
    table = page[page.index("| family |") : page.index("## What is refused")]
    rows = re.findall(r"^\| \w+ \| (.*) \|$", table, re.M)
    ours = sorted({name for row in rows for name in row.split(", ") if name != "operators"})
    names = known()
    print("//! The attributes that operators are known to have; others are refused, as they mean")
    print("//! something newer. Written by `tests/reference/attributes.py`; do not edit.")
    print()
    print("/// By operator, in alphabetical order.")
    print("#[rustfmt::skip]")
    print("pub(super) const KNOWN: &[(&str, &str)] = &[")
    for op in ours:
        attributes = " ".join(sorted(names.get(op, ())))
        if attributes:
            lines = textwrap.wrap(attributes, 90, break_on_hyphens=False)
            print(f'    ("{op}",\n     "' + " \\\n      ".join(lines) + '"),')
    print("];")


main()
