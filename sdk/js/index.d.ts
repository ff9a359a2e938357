/**
 * What a plugin in JavaScript or TypeScript is written against: a request in, a response out, models
 * by name. Its main file exports what `handler` or `hooks` makes.
 *
 * ```js
 * import { array, handler, json, object, string } from "gw-sdk";
 *
 * const Input = object({ names: array(string(), { min: 1 }) });
 *
 * export default handler(async (request) => {
 *   const { names } = await json(request, Input);
 *   return Response.json({ hello: names.join(" and ") });
 * });
 * ```
 */

/** What `Response.json` takes: a handler may return it in place of a response. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined };

/** A function that answers every request, and never rejects. */
export type Handler = (request: Request) => Promise<Response>;

/**
 * Makes a handler of a function; it is the default export of the plugin's main file.
 *
 * An `HttpError` is answered as it is. Anything else that is thrown is answered as 500
 * `plugin_failed`, and its message, file and line are in the node's log.
 */
export function handler(
  answer: (request: Request) => Response | Json | Promise<Response | Json>,
): Handler;

/**
 * Makes the hooks of a plugin: what happens before and after a model, or the rest of a chain. Each
 * runs in an instance of its own, and there is none in between: none waits for the model.
 *
 * ```js
 * import { array, hooks, infer, json, number, Tensor } from "gw-sdk";
 *
 * export default hooks({
 *   async pre(request) {
 *     const numbers = Float32Array.from(await json(request, array(number())));
 *     return infer("double", { x: new Tensor([1, numbers.length], numbers) }, request.url);
 *   },
 *   post(url, answer) {
 *     return { url, y: Array.from(answer.outputs().read("y").data) };
 *   },
 * });
 * ```
 *
 * An `HttpError` is answered as that of a handler. Anything else that is thrown is the plugin's
 * failure: gw answers for it, and its message, file and line are in the node's log.
 */
export function hooks<State = unknown>(plugin: {
  /** Says what becomes of a request. A response, or a value for JSON, is its answer. */
  pre(
    request: Request,
  ): Outcome<State> | Response | Json | Promise<Outcome<State> | Response | Json>;
  /** Makes the response after `infer` and `watch`; hooks that give neither need none. */
  post?(state: State, answer: Answer): Response | Json | Promise<Response | Json>;
}): Hooks;

/** What `hooks` makes; it is the default export of the plugin's main file. */
export class Hooks {
  private constructor();
}

/** What becomes of a request, but for an answer; `State` is what `post` is told of it, as JSON. */
export class Outcome<State = unknown> {
  private constructor();
  private readonly state: State;
}

/**
 * The model of this name runs, and `post` makes a response of its outputs. Every input has the name
 * that the model file gives it.
 */
export function infer<State = undefined>(
  model: string,
  inputs: Record<string, Tensor>,
  state?: State,
): Outcome<State>;
/**
 * The next plugin of the chain takes over, with the request as it is, or as given here. `post` is
 * not called.
 */
export function pass(request?: Request): Outcome<never>;
/** The same, and `post` is given what the rest of the chain answered. */
export function watch<State = undefined>(state?: State, request?: Request): Outcome<State>;

/** What `post` makes a response of. */
export interface Answer {
  /**
   * After `infer`: what the model answered.
   *
   * @throws HttpError 500 `unexpected_answer` after `watch`
   */
  outputs(): Outputs;
  /**
   * After `watch`: what the rest of the chain answered.
   *
   * @throws HttpError 500 `unexpected_answer` after `infer`
   */
  response(): Response;
}

/** An answer `{"error": {"code", "message", "field"}}`: throw it. */
export class HttpError extends Error {
  /**
   * @param status such as 422
   * @param code a stable `snake_case` word for programs
   * @param message a sentence for people
   * @param options `field`: the part of the request that is wrong, such as `texts[3]`
   */
  constructor(
    status: number,
    code: string,
    message: string,
    options?: { field?: string; cause?: unknown },
  );
  readonly status: number;
  readonly code: string;
  readonly field?: string;
  toResponse(): Response;
}

/** Checks a value of JSON and gives it its type; `path` is where it lies in the body. */
export type Description<T> = (value: unknown, path: string) => T;

/**
 * The body of a request, read as JSON and checked.
 *
 * @throws HttpError 400 `invalid_json`; 422 with `field` as the path of what does not fit:
 * `missing_field`, `invalid_type`, `out_of_range`, `too_short`, `too_long`, `too_few_items`,
 * `too_many_items`
 */
export function json(request: Request): Promise<unknown>;
export function json<T>(request: Request, description: Description<T>): Promise<T>;

/** Bounds, both within what is allowed. */
export interface Limits {
  min?: number;
  max?: number;
}

/** A text, with bounds of its length. */
export function string(limits?: Limits): Description<string>;
export function boolean(): Description<boolean>;
/** A number that is finite, with bounds. */
export function number(limits?: Limits): Description<number>;
/** A whole number, with bounds. */
export function integer(limits?: Limits): Description<number>;
/** A list, with bounds of its length. */
export function array<T>(item: Description<T>, limits?: Limits): Description<T[]>;
/** An object with these fields; others are left out. */
export function object<T extends Record<string, unknown>>(fields: {
  [K in keyof T]: Description<T[K]>;
}): Description<T>;
/** What may be missing or null. */
export function optional<T>(inner: Description<T>): Description<T | undefined>;

/** The types of elements with the arrays that hold them; half precision is kept as its bits. */
export interface Arrays {
  fp32: Float32Array;
  fp64: Float64Array;
  u8: Uint8Array;
  i32: Int32Array;
  i64: BigInt64Array;
  fp16: Uint16Array;
  bf16: Uint16Array;
}
export type ElementType = keyof Arrays;

/** Numbers with a shape, in row-major order. */
export class Tensor<T extends ElementType = ElementType> {
  /**
   * The type is that of the array; of a `Uint16Array` it has to be said.
   *
   * @throws RangeError where `data` does not fill `dims`
   * @throws TypeError where `data` is no array of such elements
   */
  constructor(dims: Iterable<number>, data: Arrays[T], type?: T);
  /** A tensor of 64-bit whole numbers from ordinary ones. */
  static i64(dims: Iterable<number>, values: Iterable<number | bigint>): Tensor<"i64">;
  /** The dimensions, outermost first. */
  readonly dims: number[];
  readonly type: T;
  /** The elements, one after the other. */
  readonly data: Arrays[T];
  /**
   * This tensor, where its shape is `expected`; null stands for any size.
   *
   * @throws RangeError with both shapes
   */
  expectDims(expected: (number | null)[]): this;
  /** What each index of the first dimension holds, without copying. */
  rows(): Generator<Arrays[T]>;
}

/** A model that the manifest grants to this plugin. It is in memory already. */
export class Graph {
  private constructor();
  /**
   * Looks a model up by the name it has in gw.toml.
   *
   * @throws ModelError `not-found` where no such model is granted
   */
  static load(name: string): Promise<Graph>;
  readonly name: string;
  /**
   * Runs the model once. Every input has the name that the model file gives it.
   *
   * @throws ModelError where the inputs do not fit the model, and for whatever its device reports
   */
  compute(inputs: Record<string, Tensor>): Promise<Outputs>;
  /** Begins a sequence of runs. */
  context(): Context;
}

/**
 * A sequence of runs. Of a model that has `state` in gw.toml, each run goes on where the last one
 * ended; a state that is given begins anew with it.
 */
export class Context {
  private constructor();
  /** Runs the model once. What was not read of the last run's outputs is gone then. */
  compute(inputs: Record<string, Tensor>): Promise<Outputs>;
  dispose(): void;
}

/** What a model answered. Nothing is copied into the plugin until it is read, and only once. */
export class Outputs {
  private constructor();
  /** The names, in the model's order. */
  readonly names: string[];
  /** One output. Give its type where TypeScript should know it: `outputs.read<"fp32">("logits")`. */
  read<T extends ElementType = "fp32">(name: string): Tensor<T>;
  /** Gives back what was not read. */
  dispose(): void;
}

/** Why a model did not answer. Not caught, it is answered as 500, 503 or 504. */
export class ModelError extends HttpError {
  private constructor();
  readonly model: string;
  /** The code of wasi-nn, such as `not-found` or `invalid-argument`. */
  readonly kind: string;
}

/** The values of `config` and the secrets that `secrets` names in gw.toml. */
export namespace config {
  /** A value or a secret; undefined where there is none of this name. */
  function get(key: string): string | undefined;
  /** All values, without secrets. */
  function getAll(): Record<string, string>;
}

/** The buckets that `keyvalue` names in gw.toml. */
export namespace keyvalue {
  /** @throws where the bucket is not granted */
  function open(name: string): Promise<Bucket>;

  /** Keys with values, of one app. A value is kept when `set` is done. */
  interface Bucket {
    get(key: string): Promise<Uint8Array | undefined>;
    getText(key: string): Promise<string | undefined>;
    getJson(key: string): Promise<unknown>;
    set(key: string, value: string | Uint8Array): Promise<void>;
    setJson(key: string, value: unknown): Promise<void>;
    delete(key: string): Promise<void>;
    exists(key: string): Promise<boolean>;
    /** All keys, asked for page by page. */
    keys(): AsyncGenerator<string>;
    /** Adds to a counter in one step, and gives its new value. */
    increment(key: string, delta?: number): Promise<number>;
    /** The values of those keys that are there. */
    getMany(keys: string[]): Promise<Map<string, Uint8Array>>;
    /** Writes several values; where that fails, some may be written. */
    setMany(entries: Iterable<[string, string | Uint8Array]>): Promise<void>;
    deleteMany(keys: string[]): Promise<void>;
  }
}

/** Writes to the node's log, under the plugin's name. `console.log` goes there too, line by line. */
export const log: Record<
  "trace" | "debug" | "info" | "warn" | "error",
  (message: unknown, context?: string) => void
>;

/**
 * The file that `[[asset]]` in gw.toml calls `name`.
 *
 * @throws where there is no such asset
 */
export function asset(name: string): Uint8Array;
