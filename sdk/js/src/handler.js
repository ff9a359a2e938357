// What turns a function into a handler: its errors become answers, and lines of the log.

import { log as write } from "wasi:logging/logging@0.1.0-draft";

import { HttpError } from "./errors.js";
import { located } from "./trace.js";

const HANDLER = Symbol.for("gw-sdk.handler");

/** Whether `value` is what `handler` made, by whatever copy of this module. */
export const isHandler = (value) => typeof value === "function" && value[HANDLER] === true;

export function handler(answer) {
  if (typeof answer !== "function") {
    throw new TypeError("handler() takes a function: handler(async (request) => …)");
  }
  const handle = async (request) => {
    try {
      return toResponse(await answer(request));
    } catch (error) {
      return failed(error);
    }
  };
  handle[HANDLER] = true;
  return handle;
}

function toResponse(value) {
  if (value instanceof Response) return value;
  if (value === undefined) {
    throw new TypeError("the handler returned nothing: return a Response, or a value for JSON");
  }
  return Response.json(value);
}

/** What is the client's doing is only answered; all else is logged with its place in the source. */
function failed(error) {
  const ours = error instanceof HttpError;
  if (!ours || error.status >= 500) {
    const { place, text } = located(error);
    write("error", place, text);
  }
  if (ours) return error.toResponse();
  const message = "the plugin failed; the log of the node has the file and line";
  return new HttpError(500, "plugin_failed", message).toResponse();
}
