"""Tensors of a torch file, read without torch and without running what its pickle names.

Two layouts: a zip whose data.pkl describes tensors over raw files, and the older one of five
pickles followed by raw storages. A pickle can name any callable; here only the names in ALLOWED
exist, each standing for something harmless of this file, and every other name is refused.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization's mark of the older layout
DTYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
}


def rebuild_tensor(storage, offset: int, shape: tuple, strides: tuple, *_hooks) -> np.ndarray:
    """A view into its storage, as torch._utils._rebuild_tensor_v2 would make it."""
    last = offset + sum((count - 1) * stride for count, stride in zip(shape, strides, strict=True))
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    if offset < 0 or min(strides, default=0) < 0 or last >= len(storage):
        raise ValueError(f"a tensor of shape {shape} leaves its storage of {len(storage)}")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    **{("torch", name): np.dtype(dtype) for name, dtype in DTYPES.items()},
}


class Reader(pickle.Unpickler):
    """Reads one pickle; storages it speaks of are made here, and filled once their bytes come."""

    def __init__(self, file: BinaryIO, storage: Callable[[np.dtype, str, int], np.ndarray]) -> None:
        super().__init__(file)
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"the pickle names {module}.{name}, which is not allowed")
        return ALLOWED[module, name]

    def persistent_load(self, reference: tuple) -> np.ndarray:
        kind, dtype, key, _device, count = reference[:5]
        if kind != "storage":
            raise pickle.UnpicklingError(f"the pickle refers to a {kind}, not to a storage")
        return self.storage(dtype, key, count)


def read(path: Path) -> Any:
    """What the file holds, its tensors as arrays."""
    return _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        (description,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        folder = description.removesuffix("data.pkl")

        def storage(dtype: np.dtype, key: str, count: int) -> np.ndarray:
            return np.frombuffer(archive.read(f"{folder}data/{key}"), dtype, count)

        return Reader(BytesIO(archive.read(description)), storage).load()


def _read_legacy(path: Path) -> Any:
    storages: dict[str, np.ndarray] = {}

    def storage(dtype: np.dtype, key: str, count: int) -> np.ndarray:
        return storages.setdefault(key, np.zeros(count, dtype))

    with path.open("rb") as file:
        magic, _protocol, _system, state, keys = (Reader(file, storage).load() for _ in range(5))
        if magic != LEGACY_MAGIC:
            raise ValueError(f"{path} is no torch file")
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            if count != len(storages[key]):
                raise ValueError(f"storage {key} has {count} elements, not {len(storages[key])}")
            storages[key].data.cast("B")[:] = file.read(storages[key].nbytes)
    return state
