"""``python -m gw_sdk.build FOLDER --out FILE.wasm``: makes a component of a plugin in Python."""

import argparse
import ast
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

SDK = Path(__file__).resolve().parent
ENTRY = "gw_entry"
# The release of WASI that the WIT is of.
WASI = "0.2.12"

_NN = ["wasi:nn/tensor", "wasi:nn/errors", "wasi:nn/inference", "wasi:nn/graph"]
_NN = [f"{name}@0.2.0-rc-2024-10-28" for name in _NN]
_KEYVALUE = [f"wasi:keyvalue/{name}@0.2.0-draft" for name in ("store", "atomics", "batch")]
# What each module of the SDK asks of the host, beside what every plugin needs.
INTERFACES = {
    "nn": _NN,
    "keyvalue": _KEYVALUE,
    "config": ["wasi:config/store@0.2.0-rc.1"],
    "outbound": [f"wasi:http/outgoing-handler@{WASI}"],
}
# What each form imports beside, and what it exports.
_LOGGING = "    import wasi:logging/logging@0.1.0-draft;"
WORLDS = {
    "handler": [
        _LOGGING,
        f"    import wasi:io/streams@{WASI};",
        f"    export wasi:http/incoming-handler@{WASI};",
    ],
    "hooks": [_LOGGING, "    include gw:plugin/hooks@0.1.0;"],
}


class BuildError(Exception):
    """What is wrong with the plugin, for the person who writes it."""


def build(folder: Path, out: Path) -> None:
    """Writes the component of the plugin in ``folder``."""
    entry = entry_of(folder)
    trees = parsed(folder)
    form, used = form_of(trees, f"{entry}.py"), modules_used(trees)
    with tempfile.TemporaryDirectory(prefix="gw-sdk-") as scratch:
        world = write_world(Path(scratch, "wit"), form, used)
        glue = Path(scratch, "entry")
        glue.mkdir()
        (glue / f"{ENTRY}.py").write_text(entry_module(entry, form))
        # The order gives the folders their numbers in the sandbox.
        paths = [folder, glue, SDK.parent, Path(sysconfig.get_paths()["purelib"])]
        command = [str(tool()), "--wit-path", str(world)]
        command += ["--world", form, "--full-names", "--quiet", "componentize", ENTRY]
        command += [part for path in paths for part in ("--python-path", str(path))]
        # Its own look-up of packages would add others than those of this interpreter.
        env = {**os.environ, "VIRTUAL_ENV": sys.prefix}
        done = subprocess.run(
            [*command, "--output", str(out)], env=env, text=True, stderr=subprocess.PIPE
        )
    if done.returncode != 0:
        raise BuildError(told(done.stderr))


def tool() -> Path:
    """The command of componentize-py that was installed with this package."""
    folder = Path(sysconfig.get_path("scripts"))
    found = [folder / name for name in ("componentize-py", "componentize-py.exe")]
    for file in found:
        if file.is_file():
            return file
    raise BuildError(f"{found[0]} is missing: run `{sys.executable} -m pip install gw-sdk`")


def entry_of(folder: Path) -> str:
    """The module with the handler or hooks: ``entry`` of ``[tool.gw]``, or ``app``."""
    manifest = folder / "pyproject.toml"
    try:
        table = tomllib.loads(manifest.read_text())
    except FileNotFoundError:
        raise BuildError(f"{folder} has no pyproject.toml: a Python plugin needs one") from None
    except tomllib.TOMLDecodeError as error:
        raise BuildError(f"{manifest}: {error}") from None
    entry = table.get("tool", {}).get("gw", {}).get("entry", "app")
    if not (folder / f"{entry}.py").is_file():
        raise BuildError(
            f"{folder} has no {entry}.py: name the module with the handler or hooks as `entry` "
            "in [tool.gw] of pyproject.toml"
        )
    return entry


def parsed(folder: Path) -> dict[str, ast.AST]:
    """The plugin's files, by their paths in its folder."""
    trees: dict[str, ast.AST] = {}
    for file in sorted(folder.rglob("*.py")):
        path = file.relative_to(folder)
        hidden = [part for part in path.parts[:-1] if part.startswith(".")]
        if hidden or "site-packages" in file.parts:
            continue
        try:
            trees[path.as_posix()] = ast.parse(file.read_bytes(), str(file))
        except SyntaxError as error:
            place = f"{path}:{error.lineno}:{error.offset}"
            raise BuildError(f"{place}: {error.msg}: {(error.text or '').strip()}") from None
    return trees


def modules_used(trees: dict[str, ast.AST]) -> set[str]:
    """The modules of the SDK behind what the plugin's files import of it."""
    from . import _LAZY

    named: set[str] = set()
    for node in (node for tree in trees.values() for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and node.module == "gw_sdk":
            named.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gw_sdk."):
            named.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            # The whole package: which parts are used shows only when it runs.
            named.update("*" for alias in node.names if alias.name.split(".")[0] == "gw_sdk")
    if "*" in named:
        return set(INTERFACES)
    return {_LAZY.get(name, name) for name in named} & set(INTERFACES)


def form_of(trees: dict[str, ast.AST], entry: str) -> str:
    """What the plugin is by the decorators in its files: ``handler`` or ``hooks``.

    It must be known before the plugin runs, as it runs in the component of its world. What its
    modules then register is checked by the entry module.
    """
    places: dict[str, str] = {}
    for file, tree in trees.items():
        for name, line in _decorators(tree):
            places.setdefault(name, f"{file}:{line}")
    hook = places.get("pre") or places.get("post")
    if hook and "handler" in places:
        one = "pre" if "pre" in places else "post"
        raise BuildError(
            f"{hook} has @{one}, and {places['handler']} has @handler: a plugin is hooks or a "
            "handler: make one of them a [[plugin]] of its own, in another folder"
        )
    for name, other in (("pre", "post"), ("post", "pre")):
        if name in places and other not in places:
            raise BuildError(
                f"{places[name]} has @{name}, and no file has @{other}: hooks are both: write "
                f"@{other} above a function in {entry}"
            )
    return "hooks" if hook else "handler"


def _decorators(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Where ``handler``, ``pre`` and ``post`` of the SDK are used, under whatever name."""
    roles = {"handler", "pre", "post"}
    names: dict[str, str] = {}
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gw_sdk":
            for alias in node.names:
                given = roles if alias.name == "*" else roles & {alias.name}
                names.update({alias.asname or role: role for role in given})
                if alias.name in ("hooks", "registry"):
                    modules.add(alias.asname or alias.name)
        elif isinstance(node, ast.Import):
            of_sdk = [alias for alias in node.names if alias.name.split(".")[0] == "gw_sdk"]
            modules.update(alias.asname or alias.name for alias in of_sdk)
            modules.update("gw_sdk" for alias in of_sdk if alias.asname is None)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
            yield names[node.id], node.lineno
        elif isinstance(node, ast.Attribute) and node.attr in roles:
            if ast.unparse(node.value) in modules:
                yield node.attr, node.lineno


def write_world(folder: Path, form: str, used: set[str]) -> Path:
    """Writes the world of a plugin that uses these modules, and gives its folder."""
    beside, within = SDK.parent.parent.parent / "wit", SDK / "wit"
    wit = within if within.is_dir() else beside
    if not wit.is_dir():
        raise BuildError(
            f"{SDK} lies apart from its WIT: install it with `pip install --editable`, from a "
            "folder sdk/python that has sdk/wit beside it"
        )
    (folder / "deps").mkdir(parents=True)
    for file in [*(wit / "deps").glob("*.wit"), wit / "hooks.wit"]:
        (folder / "deps" / file.name).write_bytes(file.read_bytes())
    imports = [name for module in sorted(used) for name in INTERFACES[module]]
    lines = [*WORLDS[form], *(f"    import {name};" for name in imports)]
    lines.append("    export init: func();")
    text = "\n".join(["package gw:python;", f"world {form} {{", *lines, "}", ""])
    (folder / "world.wit").write_text(text)
    return folder


def entry_module(entry: str, form: str) -> str:
    """The module that componentize-py starts with: the plugin, and what exports its functions."""
    file = f"{entry}.py"
    start = f'''\
import {entry}
from gw_sdk import {_MODULES[form]}

log.install()
{"hooks" if form == "hooks" else "registry"}.required({file!r})


class WitWorld:
    def init(self):
        registry.prepare()
'''
    return start + _EXPORTS[form]


_MODULES = {
    "handler": "log, registry, serve",
    "hooks": "hooks, log, registry, serve_hooks",
}
_EXPORTS = {
    "handler": f'''

class WasiHttpIncomingHandler{WASI.replace(".", "")}:
    def handle(self, request, response_out):
        serve.serve(request, response_out)
''',
    "hooks": '''
    def pre(self, request):
        return serve_hooks.pre(request)

    def post(self, state, answer):
        return serve_hooks.post(state, answer)
''',
}


def told(words: str) -> str:
    """What componentize-py said, with the files of the plugin as it knows them."""
    # Around the plugin's own traceback it prints those of the tool.
    words = words.partition("AssertionError: ")[2] or words
    words = re.split(r"\n\s*(?:Caused by:|Stack backtrace:)", words)[0]
    return re.sub(r'File "/\d+/([^"]+)", line (\d+)', r"\1:\2", words).strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gw_sdk.build", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.wasm")
    given = parser.parse_args()
    try:
        build(given.folder.resolve(), given.out.resolve())
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
