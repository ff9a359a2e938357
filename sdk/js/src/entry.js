// What the build puts in front of a plugin: its default export answers the requests.

import { explainFetch } from "./fetch.js";
import { isHandler } from "./handler.js";

export function serve(plugin, file) {
  if (!isHandler(plugin)) {
    throw new TypeError(
      `${file} has no handler as its default export: write \`export default handler(async ` +
        "(request) => …)`",
    );
  }
  explainFetch();
  addEventListener("fetch", (event) => event.respondWith(plugin(event.request)));
}
