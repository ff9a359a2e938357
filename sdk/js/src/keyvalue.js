// The buckets that `keyvalue` in gw.toml names.

import { increment } from "wasi:keyvalue/atomics@0.2.0-draft";
import { deleteMany, getMany, setMany } from "wasi:keyvalue/batch@0.2.0-draft";
import { open as openBucket } from "wasi:keyvalue/store@0.2.0-draft";

import { granted } from "./grants.js";

const encoder = new TextEncoder();
const bytesOf = (value) => {
  if (typeof value === "string") return encoder.encode(value);
  if (value instanceof Uint8Array) return value;
  throw new TypeError("a value in a bucket is a string or a Uint8Array");
};

export class Bucket {
  #bucket;
  #what;

  constructor(name, bucket) {
    this.#bucket = bucket;
    this.#what = `the bucket "${name}"`;
  }

  /** The bytes under `key`, or undefined. */
  async get(key) {
    return granted(this.#what, () => this.#bucket.get(key)) ?? undefined;
  }

  async getText(key) {
    const bytes = await this.get(key);
    return bytes && new TextDecoder().decode(bytes);
  }

  async getJson(key) {
    const text = await this.getText(key);
    return text === undefined ? undefined : JSON.parse(text);
  }

  async set(key, value) {
    granted(this.#what, () => this.#bucket.set(key, bytesOf(value)));
  }

  async setJson(key, value) {
    await this.set(key, JSON.stringify(value));
  }

  async delete(key) {
    granted(this.#what, () => this.#bucket.delete(key));
  }

  async exists(key) {
    return granted(this.#what, () => this.#bucket.exists(key));
  }

  /** All keys, page by page. */
  async *keys() {
    let cursor;
    do {
      const page = granted(this.#what, () => this.#bucket.listKeys(cursor));
      yield* page.keys;
      cursor = page.cursor ?? undefined;
    } while (cursor !== undefined);
  }

  /** Adds to a counter, in one step, and gives its new value. */
  async increment(key, delta = 1) {
    return Number(granted(this.#what, () => increment(this.#bucket, key, BigInt(delta))));
  }

  async getMany(keys) {
    const found = granted(this.#what, () => getMany(this.#bucket, keys));
    return new Map(found.filter((entry) => entry !== undefined && entry !== null));
  }

  async setMany(entries) {
    const given = Array.from(entries, ([key, value]) => [key, bytesOf(value)]);
    granted(this.#what, () => setMany(this.#bucket, given));
  }

  async deleteMany(keys) {
    granted(this.#what, () => deleteMany(this.#bucket, keys));
  }
}

export async function open(name) {
  return new Bucket(name, granted(`the bucket "${name}"`, () => openBucket(name)));
}
