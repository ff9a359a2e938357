// One mistake for each path; the tests know the lines.

import { Graph, handler, Tensor } from "gw-sdk";

async function computeDouble(values) {
  const graph = await Graph.load("double");
  const outputs = await graph.compute({ x: values });
  return Array.from(outputs.read("y").data);
}

const MISTAKES = {
  "/right": () => computeDouble(new Tensor([1, 4], Float32Array.of(1, 2, 3, 4))),
  "/list": () => computeDouble(new Tensor([1, 4], [1, 2, 3, 4])),
  "/type": () => computeDouble(Tensor.i64([1, 4], [1, 2, 3, 4])),
  "/shape": () => new Tensor([1, 4], Float32Array.of(1, 2, 3)),
  "/grant": () => Graph.load("triple"),
  "/host": () => fetch("http://example.com/"),
  "/undefined": () => JSON.parse("{}").a.b,
  "/recursion": () => MISTAKES["/recursion"]() + 1,
  "/memory": () => {
    const taken = [];
    for (;;) taken.push(new Uint8Array(32 << 20));
  },
  "/endless": () => {
    for (;;);
  },
};

export default handler((request) => MISTAKES[new URL(request.url).pathname]());
