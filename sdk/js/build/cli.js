#!/usr/bin/env node
// gw-sdk-build FOLDER --out FILE.wasm: makes a component of a plugin in JavaScript or TypeScript.

import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

import { build } from "./component.js";
import { BuildError } from "./tools.js";

const USAGE = "usage: gw-sdk-build FOLDER --out FILE.wasm";

async function main() {
  let folder, out;
  try {
    const options = { out: { type: "string", short: "o" } };
    const { positionals, values } = parseArgs({ options, allowPositionals: true });
    [folder] = positionals;
    out = values.out;
    if (folder === undefined || positionals.length > 1 || out === undefined) throw new Error(USAGE);
  } catch (error) {
    console.error(error.message === USAGE ? USAGE : `${error.message}\n${USAGE}`);
    return 2;
  }
  try {
    await writeFile(resolve(out), await build(resolve(folder)));
    return 0;
  } catch (error) {
    // What is not the plugin's doing is a defect of the tools, and its stack belongs to it.
    console.error(error instanceof BuildError ? `error: ${error.message}` : error);
    return 1;
  }
}

process.exitCode = await main();
