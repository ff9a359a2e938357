// Models by name, through `wasi:nn`.

import { Tensor as HostTensor } from "wasi:nn/tensor@0.2.0-rc-2024-10-28";
import { loadByName } from "wasi:nn/graph@0.2.0-rc-2024-10-28";

import { HttpError } from "./errors.js";
import { Tensor } from "./tensor.js";

/** What a client is told: status and code for each code of the host. */
const ANSWERS = {
  timeout: [504, "inference_timeout"],
  "runtime-error": [503, "inference_failed"],
  unknown: [503, "inference_failed"],
  "not-found": [500, "model_not_found"],
};
const REFUSED = [500, "inference_refused"];

export class ModelError extends HttpError {
  constructor(model, kind, message) {
    const [status, code] = ANSWERS[kind] ?? REFUSED;
    super(status, code, `model ${JSON.stringify(model)}: ${message}`);
    this.name = "ModelError";
    this.model = model;
    this.kind = kind;
  }
}

/** The result of a call of the host; its errors are resources. */
function asked(model, call) {
  try {
    return call();
  } catch (error) {
    const told = error?.payload;
    if (typeof told?.code !== "function") throw error;
    const kind = told.code();
    const words = told.data();
    const hint =
      kind === "not-found" ? `; add it to \`models\` of this plugin's [[plugin]] in gw.toml` : "";
    throw new ModelError(model, kind, words + hint);
  }
}

export class Graph {
  #graph;

  constructor(name, graph) {
    this.name = name;
    this.#graph = graph;
  }

  static async load(name) {
    if (typeof name !== "string") throw new TypeError(`a model's name is text, not ${name}`);
    return new Graph(name, asked(name, () => loadByName(name)));
  }

  context() {
    return new Context(this.name, asked(this.name, () => this.#graph.initExecutionContext()));
  }

  async compute(inputs) {
    const context = this.context();
    try {
      return await context.compute(inputs);
    } finally {
      context.dispose();
    }
  }
}

export class Context {
  #model;
  #context;
  #last;

  constructor(model, context) {
    this.#model = model;
    this.#context = context;
  }

  async compute(inputs) {
    // The host counts the tensors that a request holds, and a sequence may have thousands of runs.
    this.#last?.dispose();
    const given = Object.entries(inputs).map(([name, tensor]) => {
      if (!(tensor instanceof Tensor)) {
        const fix = "write new Tensor(dims, values)";
        throw new TypeError(`input "${name}" of model "${this.#model}" is no Tensor: ${fix}`);
      }
      return [name, new HostTensor(tensor.dims, tensor.type.toUpperCase(), tensor.toBytes())];
    });
    const outputs = asked(this.#model, () => this.#context.compute(given));
    this.#last = new Outputs(this.#model, outputs);
    return this.#last;
  }

  dispose() {
    this.#context[Symbol.dispose ?? Symbol.for("dispose")]();
  }
}

export class Outputs {
  #model;
  #tensors;

  constructor(model, outputs) {
    this.#model = model;
    this.#tensors = new Map(outputs);
    this.names = [...this.#tensors.keys()];
  }

  read(name) {
    if (!this.names.includes(name)) {
      const all = this.names.join(", ");
      throw new ModelError(this.#model, "invalid-argument", `it has no output "${name}", only ${all}`);
    }
    const held = this.#tensors.get(name);
    if (held === undefined) {
      const when = "it was read before, or its context ran again";
      throw new ModelError(this.#model, "invalid-argument", `output "${name}" is gone: ${when}`);
    }
    this.#tensors.delete(name);
    try {
      return Tensor.fromBytes(held.dimensions(), held.ty().toLowerCase(), held.data());
    } finally {
      drop(held);
    }
  }

  dispose() {
    for (const held of this.#tensors.values()) drop(held);
    this.#tensors.clear();
  }
}

function drop(held) {
  held[Symbol.dispose ?? Symbol.for("dispose")]();
}
