"""Where an error was raised, in the plugin's own files.

Not by the standard module ``traceback``, which looks for the text of each line in files that the
sandbox does not have: that costs more than the request.
"""

import re
from collections.abc import Iterator

# The folders of a build are numbered in the sandbox: `/0/app.py` is the project's `app.py`.
_MOUNT = re.compile(r"^/\d+/")


# A recursion without an end has a thousand, and a request may log 16 KiB.
_FRAMES_MAX = 20


def located(error: BaseException) -> tuple[str, str]:
    """The place of an error, such as ``app.py:12``, and its message with all frames."""
    frames = list(_frames(error))
    own = [place for place, _ in frames if not place.startswith(("gw_sdk/", "gw_entry.py"))]
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError):
        said += "raise `memory` in the `limits` of this plugin's [[plugin]] in gw.toml"
    head = f"{own[-1]}: {said}" if own else said
    shown = frames[: -_FRAMES_MAX - 1 : -1]
    text = "\n".join([head, *(f"    at {place} in {name}" for place, name in shown)])
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        text += f"\ncaused by: {located(cause)[1]}"
    # The log takes characters, and the text may quote half of a surrogate pair.
    return own[-1] if own else "", text.encode(errors="backslashreplace").decode()


def _frames(error: BaseException) -> Iterator[tuple[str, str]]:
    """Places and functions, the outermost first."""
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        file = _MOUNT.sub("", code.co_filename)
        # Natively the SDK has a path of its own.
        file = "gw_sdk/" + file.rpartition("/gw_sdk/")[2] if "/gw_sdk/" in file else file
        yield f"{file}:{step.tb_lineno}", code.co_name
        step = step.tb_next
