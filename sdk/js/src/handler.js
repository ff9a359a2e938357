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

/** What a plugin returns as its answer. */
export function toResponse(value, who = "the handler", other = "") {
  if (value instanceof Response) return value;
  if (value === undefined) {
    throw new TypeError(`${who} returned nothing: return ${other}a Response, or a value for JSON`);
  }
  return Response.json(value);
}

/** The answer that is thrown. What is not the client's doing is logged with its place too. */
export function thrown(error) {
  if (error.status >= 500) logged(error);
  return error.toResponse();
}

function failed(error) {
  if (error instanceof HttpError) return thrown(error);
  logged(error);
  const message = "the plugin failed; the log of the node has the file and line";
  return new HttpError(500, "plugin_failed", message).toResponse();
}

function logged(error) {
  const { place, text } = located(error);
  write("error", place, text);
}
