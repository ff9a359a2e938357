"""The bridge between a handler and ``wasi:http``; the build's entry module exports it."""

from typing import Any

from componentize_py_types import Err, Ok
from wit_world.imports import wasi_http_types_0_2_12 as wit_http

from . import log, registry
from .errors import HttpError
from .http import Request, Response
from .streams import read_all, write_all


def serve(request: Any, out: Any) -> None:
    """Answers one request."""
    try:
        given = _read(request)
    except Err:
        error = HttpError(400, "unreadable_body", "the body ended early", field="body")
        _write(registry.encoded(Response.json(error.body(), error.status)), out)
        return
    _write(registry.handle(given, log.report), out)


def _read(request: Any) -> Request:
    method = request.method()
    if isinstance(method, wit_http.Method_Other):
        name = method.value
    else:
        name = type(method).__name__.removeprefix("Method_").upper()
    path = request.path_with_query() or "/"
    with request.headers() as fields:
        headers = fields.entries()
    with request.consume() as body:
        return Request(name, path, headers, read_all(body))


def _write(response: Response, out: Any) -> None:
    data = response.body
    try:
        outgoing = wit_http.OutgoingResponse(wit_http.Fields.from_list(response.headers))
        outgoing.set_status_code(response.status)
    except Err as error:
        # A header or status that HTTP does not allow is the plugin's mistake.
        log.report("", f"the response has no valid status and headers: {error.value}")
        outgoing = wit_http.OutgoingResponse(wit_http.Fields())
        outgoing.set_status_code(500)
        data = b""
    body = outgoing.body()
    wit_http.ResponseOutparam.set(out, Ok(outgoing))
    try:
        write_all(body, data)
        wit_http.OutgoingBody.finish(body, None)
    except Err:
        pass  # A client that left needs no answer.
