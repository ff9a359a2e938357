"""What models answer, and how they fail."""

from collections.abc import Mapping
from typing import Any

from .errors import HttpError
from .tensor import Tensor

# What a client is told: status and code for each code of the host.
_ANSWERS = {
    "TIMEOUT": (504, "inference_timeout"),
    "RUNTIME_ERROR": (503, "inference_failed"),
    "UNKNOWN": (503, "inference_failed"),
    "NOT_FOUND": (500, "model_not_found"),
}
_REFUSED = (500, "inference_refused")


class ModelError(HttpError):
    """A model did not answer. ``kind`` is the code of wasi-nn, such as ``NOT_FOUND``.

    A `post` is not told the model's name.
    """

    def __init__(self, model: str | None, kind: str, message: str) -> None:
        status, code = _ANSWERS.get(kind, _REFUSED)
        named = "the model" if model is None else f"model {model!r}"
        super().__init__(status, code, f"{named}: {message}")
        self.model = model
        self.kind = kind


def checked(model: str, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """``inputs``, where all are tensors."""
    for name, tensor in inputs.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"input {name!r} of model {model!r} is a {type(tensor).__name__}, no Tensor: "
                "write Tensor(dims, values, type)"
            )
    return inputs


class Outputs:
    """What a model answered. Nothing is copied into a handler until it is read, and only once."""

    def __init__(self, model: str | None, outputs: Mapping[str, Any]) -> None:
        self._model = model
        self._held = dict(outputs)
        self.names = list(self._held)
        """The names, in the model's order."""

    def read(self, name: str) -> Tensor:
        """One output.

        Raises `ModelError` where the model has no such output, or it was read before.
        """
        if name not in self.names:
            message = f"it has no output {name!r}, only {', '.join(self.names)}"
            raise ModelError(self._model, "INVALID_ARGUMENT", message)
        if name not in self._held:
            message = f"output {name!r} is gone: it was read before, or its context ran again"
            raise ModelError(self._model, "INVALID_ARGUMENT", message)
        return self._copied(self._held.pop(name))

    def close(self) -> None:
        """Gives back what was not read."""
        for held in self._held.values():
            self._released(held)
        self._held.clear()

    # The outputs of hooks are tensors; those of a handler are the host's.

    def _copied(self, held: Any) -> Tensor:
        return held

    def _released(self, held: Any) -> None:
        pass
