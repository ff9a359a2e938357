// Hooks: what happens before and after a model, or the rest of a chain.

import { HttpError } from "./errors.js";
import { thrown, toResponse } from "./handler.js";
import { Outputs } from "./outputs.js";
import { named } from "./tensor.js";
import { located } from "./trace.js";
import { requestOf, responseOf, wholeRequest, wholeResponse } from "./whole.js";

const HOOKS = Symbol.for("gw-sdk.hooks");

/** Whether `value` is what `hooks` made, by whatever copy of this module. */
export const isHooks = (value) => value?.[HOOKS] === true;

/** What becomes of a request, but for an answer. */
class Outcome {
  constructor(tag, { request, ...rest }) {
    if (request !== undefined && !(request instanceof Request)) {
      throw new TypeError(`${tag}() takes a Request, or nothing where it goes on as it is`);
    }
    Object.assign(this, { tag, request, rest });
  }

  /** The same as the host takes it. */
  async whole() {
    const { tag, request, rest } = this;
    if (tag === "infer") return { tag, val: rest };
    const changed = request && (await wholeRequest(request));
    return { tag, val: tag === "pass" ? changed : { request: changed, ...rest } };
  }
}

export function infer(model, inputs, state) {
  if (typeof model !== "string") throw new TypeError(`a model's name is text, not ${model}`);
  const tensors = named(model, inputs).map(([name, tensor]) => {
    return { name, dimensions: tensor.dims, ty: tensor.type, data: tensor.toBytes() };
  });
  return new Outcome("infer", { model, inputs: tensors, state: packed({ model, state }) });
}

export function pass(request) {
  return new Outcome("pass", { request });
}

export function watch(state, request) {
  return new Outcome("watch", { request, state: packed({ state }) });
}

export function hooks(plugin) {
  const { pre, post = missing } = plugin ?? {};
  if (typeof pre !== "function" || typeof post !== "function") {
    const fix = "hooks({ pre(request) {…}, post(state, answer) {…} })";
    throw new TypeError(`hooks() takes functions: ${fix}`);
  }
  return {
    [HOOKS]: true,
    pre: (request) =>
      answered(async () => {
        const outcome = await pre.call(plugin, requestOf(request));
        if (outcome instanceof Outcome) return outcome.whole();
        return responds(toResponse(outcome, "`pre`", "infer(…), pass(), watch(…), "));
      }, responds),
    post: (bytes, answer) =>
      answered(async () => {
        const { model, state } = JSON.parse(new TextDecoder().decode(bytes));
        const made = await post.call(plugin, state, answerOf(answer, model));
        return wholeResponse(toResponse(made, "`post`"));
      }, wholeResponse),
  };
}

const responds = async (response) => ({ tag: "respond", val: await wholeResponse(response) });

/** What a hook gives, or the answer that it throws. Anything else is the plugin's failure. */
async function answered(hook, answer) {
  try {
    return await hook();
  } catch (error) {
    if (error instanceof HttpError) return answer(thrown(error));
    throw { payload: located(error).text };
  }
}

/** State on its way from `pre` to `post`, and the model, which `post` is not told otherwise. */
const packed = (told) => new TextEncoder().encode(JSON.stringify(told));

/** What `post` makes a response of. */
function answerOf({ tag, val }, model) {
  const expect = (wanted, what) => {
    if (tag !== wanted) throw new HttpError(500, "unexpected_answer", `the answer is ${what}`);
  };
  return {
    outputs() {
      expect("outputs", "a response, and `post` wants a model's outputs");
      const here = ({ name, dimensions, ty, data }) => {
        return [name, { dimensions: () => dimensions, ty: () => ty, data: () => data }];
      };
      return new Outputs(model, val.map(here));
    },
    response() {
      expect("response", "a model's outputs, and `post` wants a response");
      return responseOf(val);
    },
  };
}

function missing() {
  const message = "these hooks have no `post`, and their `pre` asks for it";
  throw new HttpError(500, "no_post_hook", message);
}
