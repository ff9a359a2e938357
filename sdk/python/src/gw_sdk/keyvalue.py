"""The buckets that ``keyvalue`` in gw.toml names. A value is kept when ``set`` returns.

>>> visits = keyvalue.open("visits")  # doctest: +SKIP
>>> visits.increment("total")  # doctest: +SKIP
1
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from componentize_py_types import Err
from wit_world.imports import (
    wasi_keyvalue_atomics_0_2_0_draft as wit_atomics,
    wasi_keyvalue_batch_0_2_0_draft as wit_batch,
    wasi_keyvalue_store_0_2_0_draft as wit_store,
)

from .grants import GrantError


class Bucket:
    """Keys with bytes, of one app. Every method raises `GrantError` for what the store reports."""

    def __init__(self, name: str, bucket: Any) -> None:
        self.name = name
        self._bucket = bucket

    def get(self, key: str) -> bytes | None:
        """The value under ``key``, or ``None``."""
        return self._asked(self._bucket.get, key)

    def get_json(self, key: str) -> Any:
        """The value under ``key``, read as JSON, or ``None``."""
        found = self.get(key)
        return None if found is None else json.loads(found)

    def set(self, key: str, value: bytes | str) -> None:
        """Writes a value; text is kept as UTF-8."""
        self._asked(self._bucket.set, key, _bytes(value))

    def set_json(self, key: str, value: object) -> None:
        """Writes a value as JSON."""
        self.set(key, json.dumps(value, allow_nan=False))

    def delete(self, key: str) -> None:
        """Takes a key away, if it is there."""
        self._asked(self._bucket.delete, key)

    def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        return self._asked(self._bucket.exists, key)

    def keys(self) -> Iterator[str]:
        """All keys, asked for page by page."""
        cursor = None
        while True:
            page = self._asked(self._bucket.list_keys, cursor)
            yield from page.keys
            cursor = page.cursor
            if cursor is None:
                return

    def increment(self, key: str, delta: int = 1) -> int:
        """Adds to a counter in one step, and gives its new value."""
        return self._asked(wit_atomics.increment, self._bucket, key, delta)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The values of those keys that are there."""
        found = self._asked(wit_batch.get_many, self._bucket, list(keys))
        return dict(entry for entry in found if entry is not None)

    def set_many(self, values: Mapping[str, bytes | str]) -> None:
        """Writes several values; where that fails, some may be written."""
        given = [(key, _bytes(value)) for key, value in values.items()]
        self._asked(wit_batch.set_many, self._bucket, given)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Takes several keys away."""
        self._asked(wit_batch.delete_many, self._bucket, list(keys))

    def _asked(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Err as error:
            raise GrantError(f"the bucket {self.name!r}", error) from None


def open(name: str) -> Bucket:
    """The bucket of this name. Raises `GrantError` where it is not granted."""
    try:
        return Bucket(name, wit_store.open(name))
    except Err as error:
        raise GrantError(f"the bucket {name!r}", error) from None


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
