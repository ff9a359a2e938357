import assert from "node:assert/strict";
import { test } from "node:test";

import { HttpError } from "../src/errors.js";
import { Tensor } from "../src/tensor.js";
import { lines } from "./host.js";

const { hooks, infer, isHooks, pass, watch } = await import("../src/hooks.js");

const bytes = (text) => new TextEncoder().encode(text);
const text = (given) => new TextDecoder().decode(given);
const REQUEST = {
  method: "POST",
  pathWithQuery: "/a?b=c",
  headers: [["host", bytes("gw.test")], ["x-name", Uint8Array.of(0xe9)]],
  body: bytes("[1, 2]"),
};
const RESPONSE = { status: 201, headers: [["x-a", bytes("1")]], body: bytes("made") };
const rejected = (promise) => promise.then(assert.fail, (error) => error.payload);

test("a model runs between the hooks, and state goes past it", async () => {
  const doubled = hooks({
    async pre(request) {
      const numbers = Float32Array.from(await request.json());
      return infer("double", { x: new Tensor([1, numbers.length], numbers) }, { of: request.url });
    },
    post: ({ of }, answer) => ({ of, y: [...answer.outputs().read("y").data] }),
  });
  assert.ok(isHooks(doubled) && !isHooks(undefined) && !isHooks({}));
  const { tag, val } = await doubled.pre(REQUEST);
  assert.equal(tag, "infer");
  const data = new Uint8Array(Float32Array.of(1, 2).buffer);
  assert.deepEqual(val.inputs, [{ name: "x", dimensions: [1, 2], ty: "fp32", data }]);
  assert.equal(val.model, "double");
  const outputs = [{ name: "y", dimensions: Uint32Array.of(1, 2), ty: "fp32", data }];
  const answer = await doubled.post(val.state, { tag: "outputs", val: outputs });
  assert.equal(answer.status, 200);
  assert.deepEqual(JSON.parse(text(answer.body)), { of: "http://gw.test/a?b=c", y: [1, 2] });
});

test("a request is answered, goes on as it is, or changed", async () => {
  const pre = (outcome) => hooks({ pre: outcome }).pre(REQUEST);
  const { tag, val } = await pre(() => Response.json([1], { status: 202 }));
  assert.deepEqual([tag, val.status, text(val.body)], ["respond", 202, "[1]"]);
  assert.equal(text((await pre(() => ({ a: 1 }))).val.body), '{"a":1}');
  assert.deepEqual(await pre(() => pass()), { tag: "pass", val: undefined });
  const changed = await pre((request) => pass(new Request(request, { body: "new" })));
  assert.deepEqual([changed.tag, changed.val.method], ["pass", "POST"]);
  assert.deepEqual([changed.val.pathWithQuery, text(changed.val.body)], ["/a?b=c", "new"]);
  const headers = new Map(changed.val.headers);
  assert.deepEqual(headers.get("x-name"), Uint8Array.of(0xe9));
  assert.equal(text(headers.get("host")), "gw.test");
  const bare = await hooks({ pre: (request) => pass(request) }).pre({ ...REQUEST, method: "GET" });
  assert.equal(bare.val.body.length, 0);
});

test("what the rest of the chain answers is watched", async () => {
  const marks = hooks({
    pre: () => watch(),
    async post(state, answer) {
      const response = answer.response();
      const headers = { ...Object.fromEntries(response.headers), "x-state": String(state) };
      return new Response((await response.text()).toUpperCase(), { status: 203, headers });
    },
  });
  const { tag, val } = await marks.pre(REQUEST);
  assert.deepEqual([tag, val.request], ["watch", undefined]);
  const answer = await marks.post(val.state, { tag: "response", val: RESPONSE });
  assert.deepEqual([answer.status, text(answer.body)], [203, "MADE"]);
  const headers = new Map(answer.headers);
  assert.deepEqual([text(headers.get("x-a")), text(headers.get("x-state"))], ["1", "undefined"]);
  const none = { status: 204, headers: [], body: new Uint8Array() };
  const same = hooks({ pre: () => watch(1), post: (_, answer) => answer.response() });
  assert.equal((await same.post(bytes("{}"), { tag: "response", val: none })).status, 204);
});

test("an HttpError is answered, and the node's own is logged", async () => {
  const refuse = (status) => hooks({
    pre() {
      throw new HttpError(status, "no", "words");
    },
  });
  const { tag, val } = await refuse(422).pre(REQUEST);
  assert.deepEqual([tag, val.status, lines.length], ["respond", 422, 0]);
  assert.deepEqual(JSON.parse(text(val.body)), { error: { code: "no", message: "words" } });
  assert.equal((await refuse(503).pre(REQUEST)).val.status, 503);
  assert.match(lines.pop()[2], /hooks\.test\.js:\d+:\d+: HttpError: words/);

  const post = async (tag, read) => {
    const asked = hooks({ pre: () => pass(), ...read });
    const answer = { tag, val: tag === "outputs" ? [] : RESPONSE };
    const { status, body } = await asked.post(bytes('{"model":"m"}'), answer);
    assert.equal(status, 500);
    return JSON.parse(text(body)).error;
  };
  assert.equal((await post("outputs", {})).code, "no_post_hook");
  const response = { post: (_, answer) => answer.response() };
  assert.equal((await post("outputs", response)).code, "unexpected_answer");
  const outputs = { post: (_, answer) => answer.outputs().read("y") };
  assert.equal((await post("response", outputs)).code, "unexpected_answer");
  assert.match((await post("outputs", outputs)).message, /^model "m": it has no output "y"/);
});

test("anything else fails the plugin, with file and line", async () => {
  const pre = (hook) => rejected(hooks({ pre: hook }).pre(REQUEST));
  const place = /hooks\.test\.js:\d+:\d+: TypeError: /;
  assert.match(await pre((request) => request.none.a), place);
  assert.match(await pre(() => infer("m", { x: [1] })), /"x" of model "m" is no Tensor/);
  assert.match(await pre(() => infer("m", {}, 1n)), /serialize a BigInt/);
  assert.match(await pre(() => pass("elsewhere")), /pass\(\) takes a Request/);
  assert.match(await pre(() => {}), /`pre` returned nothing/);
  assert.throws(() => hooks({ post() {} }), /hooks\(\) takes functions/);
});
