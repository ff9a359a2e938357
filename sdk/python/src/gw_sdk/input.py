"""JSON values, checked against and converted to types."""

import types
from dataclasses import MISSING, fields, is_dataclass
from math import isfinite
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import HttpError

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
_TOO_LARGE = "is a number too large for 64 bits"


def convert(value: Any, to: Any, path: str) -> Any:
    """``value`` as ``to``: a dataclass, ``list[…]``, ``dict[str, …]``, a union, or a plain type.

    Raises 422 with ``path`` as the field where it does not fit, such as ``texts[3]``.
    """
    if to is object or to is Any:
        return _finite(value, path)
    if is_dataclass(to):
        return _fields(value, to, path)
    origin, arguments = get_origin(to), get_args(to)
    if origin is list:
        _expect(isinstance(value, list), value, path, list)
        return [convert(item, arguments[0], f"{path}[{at}]") for at, item in enumerate(value)]
    if origin is dict:
        _expect(isinstance(value, dict), value, path, dict)
        return {key: convert(item, arguments[1], f"{path}.{key}") for key, item in value.items()}
    if origin in (Union, types.UnionType):
        return _any_of(value, arguments, path)
    if origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        raise _wrong(path, "invalid_value", f"is {value!r}, not one of {list(arguments)!r}")
    if to is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), value, path, to)
        try:
            number = float(value)
        except OverflowError:
            raise _wrong(path, "invalid_type", _TOO_LARGE) from None
        return _finite(number, path)
    if to in _KINDS:
        fits = isinstance(value, to) and not (to is int and isinstance(value, bool))
        _expect(fits, value, path, to)
        return _finite(value, path)
    raise TypeError(
        f"{path} has the type {to!r}, which JSON is not converted to: use a dataclass, list[…], "
        "dict[str, …], str, int, float, bool, Literal, or a union of them"
    )


def _fields(value: Any, to: Any, path: str) -> Any:
    _expect(isinstance(value, dict), value, path, dict)
    prefix = "" if path == "body" else f"{path}."
    hints = get_type_hints(to)
    given = {}
    for field in fields(to):
        place = f"{prefix}{field.name}"
        if field.name in value:
            given[field.name] = convert(value[field.name], hints[field.name], place)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise _wrong(place, "missing_field", "is missing")
    return to(**given)


def _any_of(value: Any, arguments: tuple[Any, ...], path: str) -> Any:
    errors = []
    for one in arguments:
        try:
            return convert(value, one, path)
        except HttpError as error:
            errors.append(error)
    # What came furthest into the value says best what is wrong with it.
    raise max(errors, key=lambda error: len(error.field or ""))


def _finite(value: Any, path: str) -> Any:
    """``value``, where JSON has a form for all numbers in it: 1e999 is read as infinity."""
    below = _infinity(value)
    if below is not None:
        raise _wrong(f"{path}{below}", "invalid_type", _TOO_LARGE)
    return value


def _infinity(value: Any) -> str | None:
    """The path below ``value`` of a number that is not finite."""
    if isinstance(value, float):
        return None if isfinite(value) else ""
    if not isinstance(value, (list, dict)):
        return None
    for at, item in value.items() if isinstance(value, dict) else enumerate(value):
        below = _infinity(item)
        if below is not None:
            return (f"[{at}]" if isinstance(value, list) else f".{at}") + below
    return None


def _expect(fits: bool, value: Any, path: str, wanted: type) -> None:
    if not fits:
        kind = _KINDS.get(type(value), type(value).__name__)
        raise _wrong(path, "invalid_type", f"is {kind}, not {_KINDS[wanted]}")


def _wrong(path: str, code: str, what: str) -> HttpError:
    return HttpError(422, code, f"{path} {what}", field=path)
