"""A build backend that runs nothing of the package it is asked about.

`pip download` asks an sdist's backend for metadata, and the real one would execute setup.py.
This one copies the PKG-INFO that every sdist carries, which is all that pip wants to know.
"""

import re
from pathlib import Path


class Legacy:
    """What pip looks for where an sdist names no backend: `setuptools.build_meta:__legacy__`."""

    def prepare_metadata_for_build_wheel(self, folder: str, config_settings=None) -> str:
        text = Path("PKG-INFO").read_text(encoding="utf-8")
        name = re.search(r"^Name: (\S+)$", text, re.M)[1]
        version = re.search(r"^Version: (\S+)$", text, re.M)[1]
        info = f"{re.sub('[-.]+', '_', name)}-{version}.dist-info"
        Path(folder, info).mkdir()
        Path(folder, info, "METADATA").write_text(text, encoding="utf-8")
        return info


__legacy__ = Legacy()
