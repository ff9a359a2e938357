"""Requests and responses, whole."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

from .errors import HttpError
from .input import convert
from .parse import parse

T = TypeVar("T")

Headers: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str | bytes]]


def pairs(headers: Headers) -> list[tuple[str, bytes]]:
    """Headers as they are sent."""
    given = headers.items() if isinstance(headers, Mapping) else headers
    return [
        (name.lower(), value.encode() if isinstance(value, str) else bytes(value))
        for name, value in given
    ]


def header_of(headers: list[tuple[str, bytes]], name: str) -> str | None:
    """The first header of this name, in any letter case, where it is text."""
    name = name.lower()
    found = next((value for given, value in headers if given.lower() == name), None)
    try:
        return None if found is None else found.decode()
    except UnicodeDecodeError:
        return None


@dataclass
class Request:
    """A request."""

    method: str = "GET"
    """In upper case, such as ``POST``."""
    path_with_query: str = "/"
    """Such as ``/embed?lang=fr``."""
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    """In their order; names are in lower case."""
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path without the query."""
        return urlsplit(self.path_with_query).path

    @property
    def query(self) -> dict[str, str]:
        """The values of the query; of several with one name, the last."""
        return dict(parse_qsl(urlsplit(self.path_with_query).query, keep_blank_values=True))

    def header(self, name: str) -> str | None:
        """The first header of this name, in any letter case, where it is text."""
        return header_of(self.headers, name)

    def text(self) -> str:
        """The body as UTF-8.

        Raises 400 ``invalid_text`` where it is not.
        """
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise HttpError(400, "invalid_text", f"the body is no UTF-8: {error}", field="body")

    def json(self, of: type[T] = object) -> T:
        """The body as JSON, converted to ``of``: a dataclass, or such as ``list[str]``.

        Raises 400 ``invalid_json``, and 422 with the path of what does not fit as the field.
        """
        return convert(parse(self.body), of, "body")


@dataclass
class Response:
    """An answer."""

    status: int = 200
    body: bytes | str = b""
    headers: Headers = field(default_factory=dict)
    """By their names, or as pairs, where one name may come twice."""

    @classmethod
    def json(
        cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> "Response":
        """``value`` as JSON; dataclasses are objects."""
        return cls(status, written(value), {"content-type": "application/json", **(headers or {})})

    def header(self, name: str) -> str | None:
        """The first header of this name, in any letter case, where it is text."""
        return header_of(pairs(self.headers), name)

    def with_header(self, name: str, value: str) -> "Response":
        """This response with the header, instead of those of this name that it has."""
        kept = [header for header in pairs(self.headers) if header[0] != name.lower()]
        return replace(self, headers=[*kept, (name.lower(), value.encode())])

    def text(self) -> str:
        """The body as text."""
        return self.body if isinstance(self.body, str) else self.body.decode()

    def parsed(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


def written(value: object) -> str:
    """``value`` as JSON. Raises ``TypeError`` or ``ValueError`` where it has no such form."""
    return json.dumps(
        value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, memoryview):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form: return dicts, lists, text, numbers")
