// What models answer, or why they do not. Only JavaScript: hooks have it without `wasi:nn`.

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
      const fault = `it has no output "${name}", only ${this.names.join(", ")}`;
      throw new ModelError(this.#model, "invalid-argument", fault);
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

/** What the host holds is given back; what hooks are given is theirs. */
function drop(held) {
  held[Symbol.dispose ?? Symbol.for("dispose")]?.();
}
