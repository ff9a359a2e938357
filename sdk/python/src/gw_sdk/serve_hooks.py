"""The bridge between hooks and ``gw:plugin``; the build's entry module exports it."""

from typing import Any

from wit_world.imports import gw_plugin_types_0_1_0 as wit

from . import hooks, log
from .http import Request, Response
from .outputs import Outputs
from .tensor import Tensor


def pre(request: Any) -> Any:
    """Says what becomes of a request."""
    given = Request(request.method, request.path_with_query, request.headers, request.body)
    outcome = hooks.before(given, log.report)
    match outcome:
        case hooks.Infer(model, inputs, state):
            tensors = [_tensor(name, tensor) for name, tensor in inputs.items()]
            return wit.Outcome_Infer(wit.Inference(model, tensors, state))
        case hooks.Pass(request):
            return wit.Outcome_Pass(_request(request))
        case hooks.Watch(state, request):
            return wit.Outcome_Watch(wit.Watch(_request(request), state))
        case _:
            return wit.Outcome_Respond(_response(outcome))


def post(state: bytes, answer: Any) -> Any:
    """Makes the response."""
    if isinstance(answer, wit.Answer_Outputs):
        tensors = {
            given.name: Tensor.from_bytes(given.dimensions, given.ty.name.lower(), given.data)
            for given in answer.value
        }
        outputs = hooks.Answer(Outputs(None, tensors))
        return _response(hooks.after(state, outputs, log.report))
    given = answer.value
    response = hooks.Answer(Response(given.status, given.body, given.headers))
    return _response(hooks.after(state, response, log.report))


def _tensor(name: str, tensor: Tensor) -> Any:
    ty = wit.TensorType[tensor.type.upper()]
    return wit.Tensor(name, tensor.dims, ty, tensor.to_bytes())


def _request(request: Request | None) -> Any:
    if request is None:
        return None
    return wit.Request(request.method, request.path_with_query, request.headers, request.body)


def _response(response: Response) -> Any:
    return wit.Response(response.status, response.headers, response.body)
