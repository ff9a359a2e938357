"""The standard module ``logging``, written to the node's log."""

import logging

from wit_world.imports import wasi_logging_logging_0_1_0_draft as wit_logging

_LEVELS = [
    (logging.CRITICAL, wit_logging.Level.CRITICAL),
    (logging.ERROR, wit_logging.Level.ERROR),
    (logging.WARNING, wit_logging.Level.WARN),
    (logging.INFO, wit_logging.Level.INFO),
    (logging.DEBUG, wit_logging.Level.DEBUG),
]


class NodeHandler(logging.Handler):
    """Gives every record to the host, with the logger's name as its context."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next(
            (ours for at, ours in _LEVELS if record.levelno >= at), wit_logging.Level.TRACE
        )
        wit_logging.log(level, record.name, self.format(record))


def report(place: str, text: str) -> None:
    """A fault of the plugin, with its place in the plugin's files as the context."""
    wit_logging.log(wit_logging.Level.ERROR, place, text)


def install() -> None:
    """Makes ``logging`` write to the node, which decides what levels it keeps."""
    logging.basicConfig(handlers=[NodeHandler()], level=logging.DEBUG, force=True)
