// Models by name, through `wasi:nn`.

import { Tensor as HostTensor } from "wasi:nn/tensor@0.2.0-rc-2024-10-28";
import { loadByName } from "wasi:nn/graph@0.2.0-rc-2024-10-28";

import { ModelError, Outputs } from "./outputs.js";
import { named } from "./tensor.js";

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
    const given = named(this.#model, inputs).map(([name, tensor]) => {
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
