import assert from "node:assert/strict";
import { test } from "node:test";

import { Tensor } from "../src/tensor.js";

test("a tensor has the type of its array", () => {
  const arrays = {
    fp32: Float32Array.of(1),
    fp64: Float64Array.of(1),
    u8: Uint8Array.of(1),
    i32: Int32Array.of(1),
    i64: BigInt64Array.of(1n),
  };
  for (const [type, data] of Object.entries(arrays)) assert.equal(new Tensor([1], data).type, type);
  assert.equal(new Tensor([1], Uint16Array.of(0x3c00), "fp16").type, "fp16");
  assert.deepEqual(Tensor.i64([], [7]).data, BigInt64Array.of(7n));
});

test("what fills no shape, or is no array, is refused with the fix", () => {
  const cases = [
    [() => new Tensor([2, 2], Float32Array.of(1, 2, 3)), /\[2, 2\] has 4 elements, and 3 are given/],
    [() => new Tensor([1], [1]), /cannot hold Array: write Float32Array.from\(values\)/],
    [() => new Tensor([1], Uint16Array.of(1)), /"fp16" or "bf16"/],
    [() => new Tensor([1], Float32Array.of(1), "i64"), /type i64 takes BigInt64Array, not Float32Array/],
    [() => new Tensor([1.5], Float32Array.of(1)), /\[1.5\] are not all whole numbers/],
    [() => new Tensor([1, 2], Float32Array.of(1, 2)).expectDims([null, 3]), /\[1, 2\], not \[any, 3\]/],
  ];
  for (const [make, message] of cases) assert.throws(make, { message });
});

test("rows are views, and bytes come back", () => {
  const tensor = new Tensor([2, 2], Float32Array.of(1, 2, 3, 4)).expectDims([2, null]);
  assert.deepEqual([...tensor.rows()].map((row) => [...row]), [[1, 2], [3, 4]]);
  // Not at a place where four bytes may begin.
  const bytes = new Uint8Array([0, ...tensor.toBytes()]).subarray(1);
  assert.deepEqual(Tensor.fromBytes([2, 2], "fp32", bytes).data, tensor.data);
});
