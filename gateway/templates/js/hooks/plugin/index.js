// Lets files in by their kind: any bytes in, {"kind", "bytes"} or a refusal out.
//
// `pre` runs before the model and `post` after it, each in an instance of its own: none is alive
// while the model runs.

import { asset, config, hooks, HttpError, infer, Tensor } from "gw-sdk";

/** The model's name in gw.toml. */
const MODEL = "magika";
/** The model looks at so many bytes of either end, but for white space, */
const END = 1024;
/** which is looked for in so many. */
const SEEN = 4096;
/** Stands for a byte where a file has none. */
const NOTHING = 256;
/** Fewer bytes say nothing. */
const BYTES_MIN = 8;

export default hooks({
  async pre(request) {
    const file = new Uint8Array(await request.arrayBuffer());
    const bytes = new Tensor([1, 2 * END], bothEnds(file));
    // What `post` is told of the request: how many bytes it had.
    return infer(MODEL, { bytes }, file.length);
  },

  post(bytes, answer) {
    const names = JSON.parse(new TextDecoder().decode(asset("magika.json"))).target_labels_space;
    const outputs = answer.outputs();
    const scores = outputs.read("target_label").expectDims([1, names.length]).data;
    const kind = names[scores.indexOf(Math.max(...scores))];
    const allowed = config.get("allowed") ?? "";
    if (allowed.split(/\s+/).includes(kind)) return { kind, bytes };
    const message = `this is ${kind}, and only these kinds are taken: ${allowed}`;
    throw new HttpError(415, "unsupported_kind", message, { field: "body" });
  },
});

/** What the model takes: the first bytes, and the last, each as a number. */
function bothEnds(file) {
  const first = file.subarray(0, SEEN);
  const last = file.subarray(Math.max(0, file.length - SEEN));
  const start = first.findIndex((byte) => !isSpace(byte));
  if (start < 0 || first.length - start < BYTES_MIN) {
    const message = `a file needs ${BYTES_MIN} bytes behind white space at its start`;
    throw new HttpError(422, "too_short", message, { field: "body" });
  }
  const stop = 1 + last.findLastIndex((byte) => !isSpace(byte));
  const ends = new Int32Array(2 * END).fill(NOTHING);
  ends.set(first.subarray(start, start + END), 0);
  const tail = last.subarray(Math.max(0, stop - END), stop);
  ends.set(tail, 2 * END - tail.length);
  return ends;
}

/** Space, tab, and the ends of lines and pages. */
function isSpace(byte) {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}
