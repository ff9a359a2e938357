// Where somebody speaks in a recording: a WAV file in, its segments of speech out.

import { Graph, handler, Tensor } from "gw-sdk";

import { CHUNK, RATE, segments } from "./segments.js";
import { samplesOf } from "./wav.js";

/** The model hears the end of the last chunk again. */
const OVERLAP = 64;

export default handler(async (request) => {
  const samples = samplesOf(new Uint8Array(await request.arrayBuffer()));
  const graph = await Graph.load("silero");
  // Its state goes from run to run within one context.
  const context = graph.context();
  const probabilities = [];
  const window = new Float32Array(OVERLAP + CHUNK);
  for (let start = 0; start < samples.length; start += CHUNK) {
    window.copyWithin(0, CHUNK);
    window.fill(0, OVERLAP);
    window.set(samples.subarray(start, start + CHUNK), OVERLAP);
    const outputs = await context.compute({
      input: new Tensor([1, window.length], window),
      sr: Tensor.i64([], [RATE]),
    });
    const [probability] = outputs.read("output").expectDims([1, 1]).data;
    probabilities.push(probability);
  }
  return {
    seconds: samples.length / RATE,
    segments: segments(probabilities),
    probabilities: probabilities.map((value) => Number(value.toFixed(4))),
  };
});
