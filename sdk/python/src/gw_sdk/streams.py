"""Bodies, between bytes and the streams of ``wasi:io``."""

from typing import Any

from componentize_py_types import Err
from wit_world.imports import wasi_io_streams_0_2_12 as wit_streams

# What one read asks for; the host gives what it has, up to this.
_READ_BYTES = 1 << 20


def read_all(body: Any) -> bytes:
    """All of an incoming body. Raises ``Err`` where it ends early."""
    pieces = []
    with body.stream() as stream:
        while True:
            try:
                pieces.append(stream.blocking_read(_READ_BYTES))
            except Err as error:
                if isinstance(error.value, wit_streams.StreamError_Closed):
                    return b"".join(pieces)
                raise


def write_all(body: Any, data: bytes) -> None:
    """Writes as much at a time as the host takes; the blocking call of WASI takes only 4 KiB."""
    with body.write() as stream:
        while data:
            room = stream.check_write()
            if room == 0:
                with stream.subscribe() as ready:
                    ready.block()
                continue
            stream.write(data[:room])
            data = data[room:]
