"""JSON of clients, read so that nothing in it can end the instance or spoil an answer."""

import json
import re
from array import array
from itertools import accumulate
from typing import Any

from .errors import HttpError

# The reader calls itself for each level, and the stack of a plugin is small.
NESTING_MAX = 128

# A text whose escapes are gone.
_TEXT = re.compile(r'"[^"]*"?')
_NO_BRACKETS = re.compile(r"[^\[\]{}]+")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse(body: bytes) -> Any:
    """The value of a body.

    Raises 400 ``invalid_json`` where it is no JSON, or none that can be worked with.
    """
    try:
        # The codec that drops this mark would have to be imported.
        text = body.decode().removeprefix("\ufeff")
        if _levels(text) > NESTING_MAX:
            raise _invalid(f"more than {NESTING_MAX} lists and objects lie within each other")
        value = json.loads(text, parse_constant=_refuse)
        if _ESCAPED_SURROGATE.search(text):
            # Half of a pair is no character: no answer with it could be written.
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _invalid("a text has half of a surrogate pair") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _invalid(str(error)) from None
    except ValueError:
        # All that is left: Python reads no whole number of more than 4300 digits.
        raise _invalid("a number has too many digits") from None
    return value


def _levels(text: str) -> int:
    """How many lists and objects lie within each other at most, counted without recursion."""
    if text.count("[") + text.count("{") <= NESTING_MAX:
        return 0
    # The brackets in texts do not count.
    text = _TEXT.sub("", text.replace("\\\\", "").replace('\\"', ""))
    brackets = _NO_BRACKETS.sub("", text).encode()
    return max(accumulate(array("b", brackets.translate(_STEPS))), default=0)


def _refuse(constant: str) -> Any:
    raise _invalid(f"{constant} is no number of JSON")


def _invalid(what: str) -> HttpError:
    return HttpError(400, "invalid_json", f"the body is no JSON: {what}", field="body")
