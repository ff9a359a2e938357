// Sentence embeddings: {"input": ["text", …]} in, vectors of unit length out.

import { array, asset, Graph, handler, json, object, string, Tensor } from "gw-sdk";

import { Wordpiece } from "./wordpiece.js";

/** The model's name in gw.toml. */
const MODEL = "minilm";
/** More texts belong in several requests. */
const TEXTS_MAX = 32;
/** What comes behind so many tokens of a text does not count. */
const TOKENS_MAX = 128;

const input = object({ input: array(string(), { min: 1, max: TEXTS_MAX }) });

export default handler(async (request) => {
  const { input: texts } = await json(request, input);
  const tokenizer = JSON.parse(new TextDecoder().decode(asset("tokenizer.json")));
  const wordpiece = new Wordpiece(tokenizer);
  const rows = texts.map((text) => wordpiece.encode(text, TOKENS_MAX));

  // Shorter texts are filled up, and the mask says how far each goes.
  const width = Math.max(...rows.map((row) => row.length));
  const dims = [rows.length, width];
  const filled = (of) => Tensor.i64(dims, rows.flatMap((row) => of(row, width - row.length)));
  const model = await Graph.load(MODEL);
  const outputs = await model.compute({
    input_ids: filled((row, rest) => [...row, ...Array(rest).fill(0)]),
    attention_mask: filled((row, rest) => [...Array(row.length).fill(1), ...Array(rest).fill(0)]),
    token_type_ids: filled((row, rest) => Array(row.length + rest).fill(0)),
  });
  const hidden = outputs.read("last_hidden_state").expectDims([...dims, null]);
  const ofTexts = Array.from(hidden.rows());
  return {
    embeddings: ofTexts.map((vectors, text) => pooled(vectors, rows[text].length, hidden.dims[2])),
    tokens: rows.reduce((sum, row) => sum + row.length, 0),
  };
});

/** The mean of the vectors of a text's tokens, scaled to unit length. */
function pooled(vectors, tokens, width) {
  const sum = new Float64Array(width);
  for (let token = 0; token < tokens; token += 1) {
    for (let at = 0; at < width; at += 1) sum[at] += vectors[token * width + at];
  }
  // Scaling makes dividing by the number of tokens superfluous.
  const length = Math.hypot(...sum);
  return Array.from(sum, (value) => value / length);
}
