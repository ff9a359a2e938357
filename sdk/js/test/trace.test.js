import assert from "node:assert/strict";
import { test } from "node:test";

import { linesOf } from "../build/sourcemap.js";
import { located } from "../src/trace.js";

test("the numbers of a source map are read", () => {
  // Written out by hand: A is 0, C is 1, D is -1, K is 5, gB is 16.
  assert.deepEqual(linesOf("AAAA,KACA;;gBCDK"), [
    [[0, 0, 0, 0], [5, 0, 1, 0]],
    [],
    [[16, 1, 0, 5]],
  ]);
});

test("an error is placed where the plugin called, not in the SDK", () => {
  const table = {
    sources: ["gw-sdk/src/nn.js", "index.js"],
    lines: [[[0, 0, 6, 2]], [[0, 1, 10, 0], [20, 1, 11, 4]]],
  };
  const error = new TypeError("no");
  const stack = ["load@plugin.js:1:9", "answer@plugin.js:2:25", "other@plugin.js:9:1"];
  error.stack = [...stack, "export_pre@initializer.js:2:1", ""].join("\n");
  const { place, text } = located(error, table);
  assert.equal(place, "index.js:12:5");
  const frames = ["    at load (gw-sdk/src/nn.js:7:3)", "    at answer (index.js:12:5)"];
  assert.equal(text, ["index.js:12:5: TypeError: no", ...frames].join("\n"));
});

test("without a table the frames are those of the engine", () => {
  const { place } = located(new Error("x"));
  assert.match(place, /trace\.test\.js:\d+:\d+$/);
  assert.equal(located("text").text, "thrown: text");
});
