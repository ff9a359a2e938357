// What the SDK imports of the host, for tests that run without one.

import { register } from "node:module";

/** The lines that were logged, each as level, place and text. */
export const lines = (globalThis.lines = []);

const module = "export const log = (...line) => globalThis.lines.push(line);";
const resolve = `export const resolve = (name, context, next) => name.startsWith("wasi:")
  ? { url: ${JSON.stringify(`data:text/javascript,${module}`)}, shortCircuit: true }
  : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(resolve)}`);
