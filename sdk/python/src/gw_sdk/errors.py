"""Answers that say what is wrong, as JSON."""


class HttpError(Exception):
    """An answer ``{"error": {"code", "message", "field"}}`` with a status; a handler raises it.

    ``code`` is for programs and stays the same, ``message`` is for people, and ``field`` names the
    part of the request that is wrong, such as ``texts[3]``.
    """

    def __init__(self, status: int, code: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field

    def body(self) -> dict[str, object]:
        """The JSON of the answer."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.field is not None:
            error["field"] = self.field
        return {"error": error}
