"""Models by name, through ``wasi:nn``."""

from collections.abc import Mapping
from typing import Any

from componentize_py_types import Err
from wit_world.imports import (
    wasi_nn_graph_0_2_0_rc_2024_10_28 as wit_graph,
    wasi_nn_tensor_0_2_0_rc_2024_10_28 as wit_tensor,
)

from .outputs import ModelError, Outputs, checked
from .tensor import Tensor


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
        self._last: HeldOutputs | None = None

    def compute(self, inputs: Mapping[str, Tensor]) -> "Outputs":
        """Runs the model once, as `Graph.compute`."""
        # The host counts the tensors that a request holds, and a sequence may have thousands of
        # runs.
        if self._last is not None:
            self._last.close()
        given = []
        for name, tensor in checked(self._model, inputs).items():
            ty = wit_tensor.TensorType[tensor.type.upper()]
            given.append((name, wit_tensor.Tensor(tensor.dims, ty, tensor.to_bytes())))
        try:
            outputs = self._context.compute(given)
        except Err as error:
            raise _told(self._model, error) from None
        self._last = HeldOutputs(self._model, dict(outputs))
        return self._last

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)


class HeldOutputs(Outputs):
    """Outputs that the host holds."""

    def _copied(self, held: Any) -> Tensor:
        with held:
            return Tensor.from_bytes(held.dimensions(), held.ty().name.lower(), held.data())

    def _released(self, held: Any) -> None:
        held.__exit__(None, None, None)
