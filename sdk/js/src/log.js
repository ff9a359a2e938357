// Messages in the node's log, under the plugin's name.

import { log as write } from "wasi:logging/logging@0.1.0-draft";

const at = (level) => (message, context = "") => write(level, context, String(message));

export const log = {
  trace: at("trace"),
  debug: at("debug"),
  info: at("info"),
  warn: at("warn"),
  error: at("error"),
};
