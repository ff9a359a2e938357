"""Requests to the hosts that ``http`` in gw.toml grants."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from componentize_py_types import Err, Ok
from wit_world.imports import (
    wasi_http_outgoing_handler_0_2_12 as wit_outgoing,
    wasi_http_types_0_2_12 as wit_http,
)

from .http import Response
from .streams import read_all, write_all


class FetchError(Exception):
    """A request got no answer. ``kind`` is the code of wasi:http, such as ``HttpRequestDenied``."""

    def __init__(self, url: str, kind: str, detail: object = None) -> None:
        hints = {
            "HttpRequestDenied": "; add its host to `http` of this plugin's [[plugin]] in gw.toml",
            "DestinationIpProhibited": "; its address is not public, which `private_network` of "
            "this plugin's [[plugin]] in gw.toml grants",
        }
        said = f" ({detail})" if detail else ""
        super().__init__(f"{url}: {kind}{said}{hints.get(kind, '')}")
        self.url = url
        self.kind = kind


def fetch(
    url: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | str = b"",
) -> Response:
    """The whole answer of another host. A redirect is an answer like any other.

    Raises `FetchError`.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{url!r} is no http or https URL")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    data = body.encode() if isinstance(body, str) else body
    try:
        fields = [(name.lower(), value.encode()) for name, value in (headers or {}).items()]
        request = wit_http.OutgoingRequest(wit_http.Fields.from_list(fields))
        request.set_method(_method(method.upper()))
        request.set_scheme(getattr(wit_http, f"Scheme_{parts.scheme.capitalize()}")())
        request.set_authority(parts.netloc)
        request.set_path_with_query(target)
        outgoing = request.body()
        answer = wit_outgoing.handle(request, None)
        write_all(outgoing, data)
        wit_http.OutgoingBody.finish(outgoing, None)
        with answer.subscribe() as ready:
            ready.block()
        return _response(answer.get())
    except Err as error:
        raise _told(url, error) from None


def _response(result: Any) -> Response:
    # `get` gives a result of a result: the outer one says whether it was asked before.
    for _ in range(2):
        if not isinstance(result, Ok):
            raise result
        result = result.value
    headers = {name: value.decode("latin-1") for name, value in result.headers().entries()}
    return Response(result.status(), read_all(result.consume()), headers)


def _told(url: str, error: Err[Any]) -> FetchError:
    kind = type(error.value).__name__.rpartition("_")[2]
    return FetchError(url, kind, getattr(error.value, "value", None))


def _method(name: str) -> Any:
    known = getattr(wit_http, f"Method_{name.capitalize()}", None)
    return known() if known and name != "OTHER" else wit_http.Method_Other(name)
