"""Models by name, through ``wasi:nn``."""

from collections.abc import Mapping
from typing import Any

from componentize_py_types import Err
from wit_world.imports import (
    wasi_nn_graph_0_2_0_rc_2024_10_28 as wit_graph,
    wasi_nn_tensor_0_2_0_rc_2024_10_28 as wit_tensor,
)

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
    """A model did not answer. ``kind`` is the code of wasi-nn, such as ``NOT_FOUND``."""

    def __init__(self, model: str, kind: str, message: str) -> None:
        status, code = _ANSWERS.get(kind, _REFUSED)
        super().__init__(status, code, f"model {model!r}: {message}")
        self.model = model
        self.kind = kind


def _told(model: str, error: Err[Any]) -> ModelError:
    with error.value as told:
        kind, words = told.code().name, told.data()
    if kind == "NOT_FOUND":
        words += "; add it to `models` of this plugin's [[plugin]] in gw.toml"
    return ModelError(model, kind, words)


class Graph:
    """A model that the manifest grants to this plugin. It is in memory already."""

    def __init__(self, name: str, graph: Any) -> None:
        self.name = name
        self._graph = graph

    @classmethod
    def load(cls, name: str) -> "Graph":
        """Looks a model up by the name it has in gw.toml.

        Raises `ModelError` where no such model is granted.
        """
        try:
            return cls(name, wit_graph.load_by_name(name))
        except Err as error:
            raise _told(name, error) from None

    def context(self) -> "Context":
        """Begins a sequence of runs."""
        try:
            return Context(self.name, self._graph.init_execution_context())
        except Err as error:
            raise _told(self.name, error) from None

    def compute(self, inputs: Mapping[str, Tensor]) -> "Outputs":
        """Runs the model once. Every input has the name that the model file gives it.

        Raises `ModelError` where the inputs do not fit the model, and for whatever its device
        reports.
        """
        with self.context() as context:
            return context.compute(inputs)


class Context:
    """A sequence of runs. Of a model that has ``state`` in gw.toml, each run goes on where the last
    one ended; a state that is given begins anew with it.

    What is not read of one run's outputs is gone with the next run.
    """

    def __init__(self, model: str, context: Any) -> None:
        self._model = model
        self._context = context
        self._last: Outputs | None = None

    def compute(self, inputs: Mapping[str, Tensor]) -> "Outputs":
        """Runs the model once, as `Graph.compute`."""
        # The host counts the tensors that a request holds, and a sequence may have thousands of
        # runs.
        if self._last is not None:
            self._last.close()
        given = []
        for name, tensor in inputs.items():
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"input {name!r} of model {self._model!r} is a {type(tensor).__name__}, no "
                    "Tensor: write Tensor(dims, values, type)"
                )
            ty = wit_tensor.TensorType[tensor.type.upper()]
            given.append((name, wit_tensor.Tensor(tensor.dims, ty, tensor.to_bytes())))
        try:
            outputs = self._context.compute(given)
        except Err as error:
            raise _told(self._model, error) from None
        self._last = Outputs(self._model, outputs)
        return self._last

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)


class Outputs:
    """What a model answered. Nothing is copied into the plugin until it is read, and only once."""

    def __init__(self, model: str, outputs: list[tuple[str, Any]]) -> None:
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
        with self._held.pop(name) as held:
            return Tensor.from_bytes(held.dimensions(), held.ty().name.lower(), held.data())

    def close(self) -> None:
        """Gives back what was not read."""
        for held in self._held.values():
            held.__exit__(None, None, None)
        self._held.clear()
