"""Hooks: what happens before and after a model, or the rest of a chain."""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, get_type_hints

from . import registry
from .errors import HttpError
from .http import Request, Response, pairs, written
from .input import convert
from .outputs import Outputs, checked
from .registry import Function, encoded, guarded, place
from .tensor import Tensor


@dataclass
class Infer:
    """The model of this name runs, and `post` makes a response of its outputs.

    Every input has the name that the model file gives it. ``state`` is what `post` needs to know
    of the request: a value for JSON, as it runs in an instance of its own.
    """

    model: str
    inputs: Mapping[str, Tensor]
    state: object = None

    def __post_init__(self) -> None:
        checked(self.model, self.inputs)


@dataclass
class Pass:
    """The next plugin of the chain takes over, with the request as it is, or as given here.

    `post` is not called.
    """

    request: Request | None = None


@dataclass
class Watch:
    """As `Pass`, and `post` is given what the rest of the chain answered, and ``state``."""

    state: object
    request: Request | None = None


Outcome: TypeAlias = Infer | Pass | Watch | Response


@dataclass
class Answer:
    """What `post` makes a response of."""

    given: Outputs | Response

    def outputs(self) -> Outputs:
        """After `Infer`: what the model answered.

        Raises 500 ``unexpected_answer`` where no model was asked.
        """
        if isinstance(self.given, Outputs):
            return self.given
        raise _unexpected("a response, and `post` wants a model's outputs")

    def response(self) -> Response:
        """After `Watch`: what the rest of the chain answered.

        Raises 500 ``unexpected_answer`` where a model was asked.
        """
        if isinstance(self.given, Response):
            return self.given
        raise _unexpected("a model's outputs, and `post` wants a response")


_pre: Callable[[Request], Outcome] | None = None
_post: Callable[[bytes, Answer], Response] | None = None
_places: dict[str, str] = {}


def pre(function: Function) -> Function:
    """Makes ``function`` say what becomes of a request. It stays what it was, for tests.

    Its parameters are those of a handler. It returns `Infer`, `Pass`, `Watch`, or what a handler
    returns, which answers the request. Errors are answered as those of a handler.
    """
    global _pre
    here = _only(function, "pre")
    read = registry.arguments(function, here)

    def before(request: Request) -> Outcome:
        given = function(*read(request))
        if isinstance(given, (Infer, Pass, Watch)):
            return _packed(given, here)
        if given is None:
            fix = "return Infer, Pass, Watch, or an answer"
            raise TypeError(f"the @pre at {here} returned nothing: {fix}")
        return encoded(registry.response(given, f"the @pre at {here}"))

    _pre = before
    return function


def post(function: Function) -> Function:
    """Makes ``function`` answer after what `pre` asked for. It stays what it was, for tests.

    Its parameters are told by their types: an `Answer` is the answer, anything else is the state,
    made of its JSON as a handler's parameter is of the body. It returns what a handler returns.
    """
    global _post
    here = _only(function, "post")
    hints = get_type_hints(function)
    names = list(inspect.signature(function).parameters)
    is_answer = [hints.get(name, Answer if name == "answer" else None) is Answer for name in names]
    if is_answer.count(False) > 1 or is_answer.count(True) > 1:
        fix = "write def answer(state, answer: Answer)"
        raise TypeError(f"{here}: a @post takes a state and an Answer: {fix}")

    def after(state: bytes, answer: Answer) -> Response:
        arguments = [
            answer if given else _unpacked(state, hints.get(name, object), here)
            for name, given in zip(names, is_answer)
        ]
        return encoded(registry.response(function(*arguments), f"the @post at {here}"))

    _post = after
    return function


def required(file: str) -> None:
    """Raises where the plugin's module, which was just imported, has not both hooks."""
    for name, found, other in (("pre", _pre, "post"), ("post", _post, "pre")):
        if found is None:
            beside = f" beside the @{other} at {_places[other]}" if other in _places else ""
            fix = f"write @{name} above the function that is called {_WHEN[name]}"
            raise TypeError(f"{file} has no @{name}{beside}: {fix}")


def before(request: Request, report: Callable[[str, str], None]) -> Outcome:
    """What the plugin's `pre` says, whatever happens in it; a state is bytes of JSON."""

    def outcome() -> Outcome:
        required("the plugin")
        return _pre(request)

    return guarded(outcome, lambda refusal: refusal, report)


def after(state: bytes, answer: Answer, report: Callable[[str, str], None]) -> Response:
    """The answer of the plugin's `post`, whatever happens in it."""

    def response() -> Response:
        required("the plugin")
        return _post(state, answer)

    return guarded(response, lambda refusal: refusal, report)


_WHEN = {"pre": "before the model", "post": "after it"}


def _only(function: Callable[..., Any], name: str) -> str:
    here = place(function)
    if name in _places:
        raise TypeError(f"{here}: a plugin has one @{name}, and {_places[name]} is one already")
    _places[name] = here
    return here


def _packed(outcome: Infer | Pass | Watch, here: str) -> Outcome:
    """``outcome`` as it is sent."""
    if not isinstance(outcome, Infer) and outcome.request is not None:
        given = outcome.request
        body = given.body.encode() if isinstance(given.body, str) else bytes(given.body)
        sent = replace(given, headers=pairs(given.headers), body=body)
        outcome = replace(outcome, request=sent)
    if isinstance(outcome, Pass):
        return outcome
    try:
        return replace(outcome, state=written(outcome.state).encode())
    except (TypeError, ValueError) as error:
        raise TypeError(f"the state that the @pre at {here} returned: {error}") from None


def _unpacked(state: bytes, of: Any, here: str) -> Any:
    try:
        return convert(json.loads(state), of, "state")
    except HttpError as error:
        # The client has no part in it.
        raise TypeError(f"the @post at {here} does not fit the state of @pre: {error}") from None


def _unexpected(what: str) -> HttpError:
    return HttpError(500, "unexpected_answer", f"the answer is {what}")
