"""What a plugin is not granted, said as an error."""

from typing import Any


class GrantError(Exception):
    """The host refused what the manifest does not grant, or could not do it; it says which."""

    def __init__(self, what: str, error: Any) -> None:
        told = error.value
        reason = getattr(told, "value", None) or type(told).__name__
        super().__init__(f"{what}: {reason}")
