import assert from "node:assert/strict";
import { test } from "node:test";

import { HttpError } from "../src/errors.js";
import { array, integer, json, number, object, optional, string } from "../src/input.js";

const Input = object({
  name: string({ max: 5 }),
  sizes: array(integer({ min: 1 }), { min: 1, max: 2 }),
  scale: optional(number()),
});
const read = (body) => json(new Request("http://a/", { method: "POST", body }), Input);

test("what fits is given without what was not described", async () => {
  const given = await read('{"name": "a", "sizes": [1, 2], "scale": 0.5, "more": 1}');
  assert.deepEqual(given, { name: "a", sizes: [1, 2], scale: 0.5 });
  const without = await read('{"name": "a", "sizes": [1], "scale": null}');
  assert.equal(without.scale, undefined);
});

test("what does not fit is named by its path", async () => {
  const cases = [
    ["{", 400, "invalid_json", "body"],
    ["[]", 422, "invalid_type", "body"],
    ['{"sizes": [1]}', 422, "missing_field", "name"],
    ['{"name": 1, "sizes": [1]}', 422, "invalid_type", "name"],
    ['{"name": "abcdef", "sizes": [1]}', 422, "too_long", "name"],
    ['{"name": "a", "sizes": []}', 422, "too_few_items", "sizes"],
    ['{"name": "a", "sizes": [1, 2, 3]}', 422, "too_many_items", "sizes"],
    ['{"name": "a", "sizes": [1, 1.5]}', 422, "invalid_type", "sizes[1]"],
    ['{"name": "a", "sizes": [0]}', 422, "out_of_range", "sizes[0]"],
  ];
  for (const [body, status, code, field] of cases) {
    const error = await read(body).catch((thrown) => thrown);
    assert.ok(error instanceof HttpError, body);
    assert.deepEqual([error.status, error.code, error.field], [status, code, field], body);
    const answer = await error.toResponse().json();
    assert.deepEqual(answer, { error: { code, message: error.message, field } });
  }
});
