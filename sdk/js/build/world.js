// The WIT of one plugin: what it imports of the host, and no more.

import { existsSync } from "node:fs";
import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { SDK } from "./bundle.js";

/** The release of WASI that the engine within componentize-js speaks; the host takes any 0.2. */
const WASI = "0.2.10";
const VENDORED = /0\.2\.12/g;

/** What a plugin of each world exports. */
const EXPORTS = {
  handler: `export wasi:http/incoming-handler@${WASI};`,
  hooks: "include gw:plugin/hooks@0.1.0;",
};

/** Writes the world of a plugin that imports these interfaces, and gives its folder. */
export async function writeWorld(folder, world, imports) {
  const beside = join(SDK, "../wit");
  const wit = existsSync(beside) ? beside : join(SDK, "wit");
  const deps = join(wit, "deps");
  await mkdir(join(folder, "deps"), { recursive: true });
  for (const name of await readdir(deps)) {
    const text = await readFile(join(deps, name), "utf8");
    await writeFile(join(folder, "deps", name), text.replace(VENDORED, WASI));
  }
  await copyFile(join(wit, "hooks.wit"), join(folder, "deps/hooks.wit"));
  const lines = imports.map((name) => `    import ${name};`);
  const text = [
    "package gw:javascript;",
    `world ${world} {`,
    ...lines,
    `    ${EXPORTS[world]}`,
    "}",
  ].join("\n");
  await writeFile(join(folder, "world.wit"), `${text}\n`);
  return folder;
}
