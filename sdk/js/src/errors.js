// Answers that say what is wrong, as JSON.

/** An answer `{"error": {"code", "message", "field"}}` with a status; a plugin throws it. */
export class HttpError extends Error {
  constructor(status, code, message, { field, cause } = {}) {
    super(message, { cause });
    this.name = "HttpError";
    this.status = status;
    this.code = code;
    this.field = field;
  }

  toResponse() {
    const { code, message, field } = this;
    return Response.json({ error: { code, message, field } }, { status: this.status });
  }
}
