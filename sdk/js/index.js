// What a plugin imports. `index.d.ts` documents it.

export { asset } from "./src/assets.js";
export * as config from "./src/config.js";
export { HttpError } from "./src/errors.js";
export { handler } from "./src/handler.js";
export { hooks, infer, pass, watch } from "./src/hooks.js";
export { array, boolean, integer, json, number, object, optional, string } from "./src/input.js";
export * as keyvalue from "./src/keyvalue.js";
export { log } from "./src/log.js";
export { Context, Graph } from "./src/nn.js";
export { ModelError, Outputs } from "./src/outputs.js";
export { Tensor } from "./src/tensor.js";
