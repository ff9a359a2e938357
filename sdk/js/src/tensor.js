// Numbers with a shape. Only JavaScript: the host sees them in `nn.js`.

/** Each type with the array that holds it; the last two have no array of their own. */
const ARRAYS = {
  fp32: Float32Array,
  fp64: Float64Array,
  u8: Uint8Array,
  i32: Int32Array,
  i64: BigInt64Array,
  fp16: Uint16Array,
  bf16: Uint16Array,
};

const nameOf = (value) => value?.constructor?.name ?? String(value);

function typeOf(data) {
  const found = Object.entries(ARRAYS).find(([, array]) => data instanceof array);
  if (data instanceof Uint16Array) {
    throw new TypeError(
      'a tensor of a Uint16Array: say which half-precision type it holds, "fp16" or "bf16", as ' +
        "the third argument",
    );
  }
  if (found === undefined) {
    const arrays = "Float32Array, Float64Array, Uint8Array, Int32Array or BigInt64Array";
    const fix = Array.isArray(data)
      ? "write Float32Array.from(values), or Tensor.i64(dims, values) for whole numbers"
      : `give it one of ${arrays}`;
    throw new TypeError(`a tensor cannot hold ${nameOf(data)}: ${fix}`);
  }
  return found[0];
}

const shown = (dims) => `[${Array.from(dims, (size) => size ?? "any").join(", ")}]`;

export class Tensor {
  constructor(dims, data, type = typeOf(data)) {
    if (!Object.hasOwn(ARRAYS, type) || !(data instanceof ARRAYS[type])) {
      const wanted = ARRAYS[type]?.name ?? `one of ${Object.keys(ARRAYS).join(", ")}`;
      throw new TypeError(`a tensor of type ${type} takes ${wanted}, not ${nameOf(data)}`);
    }
    dims = Array.from(dims);
    if (!dims.every((size) => Number.isInteger(size) && size >= 0)) {
      throw new TypeError(`the dimensions ${shown(dims)} are not all whole numbers`);
    }
    const count = dims.reduce((product, size) => product * size, 1);
    if (count !== data.length) {
      throw new RangeError(
        `a tensor ${shown(dims)} has ${count} elements, and ${data.length} are given`,
      );
    }
    this.dims = dims;
    this.type = type;
    this.data = data;
  }

  static i64(dims, values) {
    return new Tensor(dims, BigInt64Array.from(values, BigInt));
  }

  expectDims(expected) {
    const fits = ([size, index]) => expected[index] === null || expected[index] === size;
    const same = expected.length === this.dims.length;
    if (!same || !this.dims.map((size, index) => [size, index]).every(fits)) {
      throw new RangeError(`the tensor is ${shown(this.dims)}, not ${shown(expected)}`);
    }
    return this;
  }

  *rows() {
    const [count = 0, ...rest] = this.dims;
    const length = rest.reduce((product, size) => product * size, 1);
    for (let row = 0; row < count; row += 1) {
      yield this.data.subarray(row * length, (row + 1) * length);
    }
  }

  /** A tensor of what the host gave: bytes, little-endian like WebAssembly itself. */
  static fromBytes(dims, type, bytes) {
    const array = ARRAYS[type];
    const aligned = bytes.byteOffset % array.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
    const length = aligned.byteLength / array.BYTES_PER_ELEMENT;
    return new Tensor(dims, new array(aligned.buffer, aligned.byteOffset, length), type);
  }

  toBytes() {
    return new Uint8Array(this.data.buffer, this.data.byteOffset, this.data.byteLength);
  }
}

/** The inputs of a model as names and tensors. */
export function named(model, inputs) {
  const entries = Object.entries(inputs);
  const wrong = entries.find(([, tensor]) => !(tensor instanceof Tensor));
  if (wrong !== undefined) {
    const fix = "write new Tensor(dims, values)";
    throw new TypeError(`input "${wrong[0]}" of model "${model}" is no Tensor: ${fix}`);
  }
  return entries;
}
