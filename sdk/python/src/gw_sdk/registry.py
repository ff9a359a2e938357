"""What turns a function into a handler."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar, get_type_hints

from .errors import HttpError
from .http import Request, Response, pairs
from .trace import located

Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])

_handler: Callable[[Request], Response] | None = None
_init: Callable[[], None] | None = None
_place: str | None = None


def handler(function: Function) -> Function:
    """Makes ``function`` answer the plugin's requests. It stays what it was, for tests.

    Its parameters are told by their types: a `Request` is the request, anything else is its body as
    JSON, checked against that type, a dataclass for one. It returns a `Response`, or a value that
    is answered as JSON. `HttpError` is answered as it is; any other exception is a 500, and a line
    of the log with file and line.
    """
    global _handler, _place
    here = place(function)
    if _place is not None:
        raise TypeError(f"{here}: a plugin has one @handler, and {_place} is one already")
    read = arguments(function, here)

    def answer(request: Request) -> Response:
        return response(function(*read(request)), f"the handler at {here}")

    _handler, _place = answer, here
    return function


def init(function: Callable[[], None]) -> Callable[[], None]:
    """Runs ``function`` once, when the plugin is built: what it leaves is there for every request.

    It sees the assets of the app under ``/assets``; models and grants are not there yet.
    """
    global _init
    if _init is not None:
        raise TypeError(f"{place(function)}: a plugin has one @init")
    done = []

    @wraps(function)
    def once() -> None:
        if not done:
            function()
            done.append(True)

    _init = once
    return function


def required(file: str) -> None:
    """Raises where the plugin's module, which was just imported, has no ``@handler``."""
    if _handler is None:
        fix = "write @handler above the function that answers, or @pre and @post above two"
        raise TypeError(f"{file} has no handler: {fix}")


def prepare() -> None:
    """Runs the plugin's ``@init``, unless it has run."""
    if _init is not None:
        _init()


def handle(request: Request, report: Callable[[str, str], None]) -> Response:
    """The answer of the plugin's handler, whatever happens in it; its body is bytes.

    ``report`` takes what is the plugin's own fault: a place in its files, and all that is known.
    """

    def answer() -> Response:
        required("the plugin")
        return encoded(_handler(request))

    return guarded(answer, lambda refusal: refusal, report)


def guarded(
    work: Callable[[], Result],
    refused: Callable[[Response], Result],
    report: Callable[[str, str], None],
) -> Result:
    """What ``work`` gives behind ``@init``; its errors as responses, which ``refused`` takes."""
    try:
        prepare()
        try:
            return work()
        except HttpError as error:
            if error.status >= 500:
                report(*located(error))
            return refused(encoded(Response.json(error.body(), error.status)))
    except BaseException as error:  # An instance has one request, and SystemExit would end it.
        report(*located(error))
        message = "the plugin failed; the log of the node has the file and line"
        return refused(
            encoded(Response.json(HttpError(500, "plugin_failed", message).body(), 500))
        )


def encoded(response: Response) -> Response:
    """``response`` as it is sent. Raises where its parts have no bytes, while that is caught."""
    body = response.body.encode() if isinstance(response.body, str) else bytes(response.body)
    return replace(response, body=body, headers=pairs(response.headers))


def arguments(function: Callable[..., Any], here: str) -> Callable[[Request], list[Any]]:
    """What makes the arguments of ``function`` out of a request."""
    hints = get_type_hints(function)
    found: list[Callable[[Request], Any]] = []
    for name in inspect.signature(function).parameters:
        of = hints.get(name)
        if of is Request or (of is None and name == "request"):
            found.append(lambda request: request)
        elif of is None:
            raise TypeError(f"{here}: give the parameter {name} a type: Request, or a dataclass")
        else:
            found.append(lambda request, of=of: request.json(of))
    return lambda request: [read(request) for read in found]


def response(value: object, whose: str) -> Response:
    """What a function of the plugin returned, as a response."""
    if isinstance(value, Response):
        return value
    if value is None:
        raise TypeError(f"{whose} returned nothing: return a Response, or a value")
    return Response.json(value)


def place(function: Callable[..., Any]) -> str:
    """Where a function of the plugin is. Raises ``TypeError`` where it is none that is called."""
    code = function.__code__
    here = f"{code.co_filename.rpartition('/')[2]}:{code.co_firstlineno}"
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{here}: a plugin's functions are plain: write def, not async def")
    return here
