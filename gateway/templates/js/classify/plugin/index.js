// Says what kind of file it is given: any bytes in, the likeliest kinds out.

import { asset, Graph, handler, HttpError, Tensor } from "gw-sdk";

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
/** How many kinds are answered. */
const KINDS = 3;

export default handler(async (request) => {
  const bytes = bothEnds(new Uint8Array(await request.arrayBuffer()));
  const model = await Graph.load(MODEL);
  const outputs = await model.compute({ bytes: new Tensor([1, 2 * END], bytes) });
  const names = JSON.parse(new TextDecoder().decode(asset("magika.json"))).target_labels_space;
  const scores = outputs.read("target_label").expectDims([1, names.length]).data;
  const kinds = names.map((kind, index) => ({ kind, score: scores[index] }));
  kinds.sort((a, b) => b.score - a.score);
  return { kinds: kinds.slice(0, KINDS) };
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
