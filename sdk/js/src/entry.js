// What the build puts in front of a plugin: its default export answers the requests.

import { explainFetch } from "./fetch.js";
import { isHandler } from "./handler.js";
import { isHooks } from "./hooks.js";

/** Lets a handler answer, and gives what a component of hooks exports. */
export function serve(plugin, file) {
  explainFetch();
  if (isHooks(plugin)) return plugin;
  if (!isHandler(plugin)) {
    throw new TypeError(
      `${file} has no handler and no hooks as its default export: write \`export default ` +
        "handler(async (request) => …)` or `export default hooks({ pre, post })`",
    );
  }
  addEventListener("fetch", (event) => event.respondWith(plugin(event.request)));
  return {};
}
