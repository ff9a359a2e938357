// The WIT of one plugin: what it imports of the host, and no more.

import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { SDK } from "./bundle.js";

/** The release of WASI that the engine within componentize-js speaks; the host takes any 0.2. */
const WASI = "0.2.10";
const VENDORED = /0\.2\.12/g;

export const WORLD = "handler";

/** Writes the world of a plugin that imports these interfaces, and gives its folder. */
export async function writeWorld(folder, imports) {
  const beside = join(SDK, "../wit/deps");
  const deps = existsSync(beside) ? beside : join(SDK, "wit/deps");
  await mkdir(join(folder, "deps"), { recursive: true });
  for (const name of await readdir(deps)) {
    const text = await readFile(join(deps, name), "utf8");
    await writeFile(join(folder, "deps", name), text.replace(VENDORED, WASI));
  }
  const lines = imports.map((name) => `    import ${name};`);
  const text = [
    "package gw:javascript;",
    `world ${WORLD} {`,
    ...lines,
    `    export wasi:http/incoming-handler@${WASI};`,
    "}",
  ].join("\n");
  await writeFile(join(folder, "world.wit"), `${text}\n`);
  return folder;
}
