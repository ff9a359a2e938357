// One module of a plugin and all that it imports, with the way back to its files.

import { existsSync, readFileSync, realpathSync } from "node:fs";
import { builtinModules } from "node:module";
import { join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

import { linesOf } from "./sourcemap.js";
import { BuildError, tool } from "./tools.js";

/** The root of this package. */
export const SDK = realpathSync(fileURLToPath(new URL("..", import.meta.url)));
const ENTRY = "\0gw-entry";
const MAIN = ["index.js", "index.mjs", "index.ts", "src/index.js", "src/index.ts"];

/** The file with the handler or the hooks: `main` of package.json, or the first usual one. */
export function mainOf(folder) {
  const manifest = join(folder, "package.json");
  if (!existsSync(manifest)) {
    throw new BuildError(`${folder} has no package.json: a JavaScript plugin needs one`);
  }
  let main;
  try {
    ({ main } = JSON.parse(readFileSync(manifest, "utf8")));
  } catch (error) {
    throw new BuildError(`${manifest}: ${error.message}`);
  }
  const file = main ?? MAIN.find((name) => existsSync(join(folder, name)));
  if (file === undefined || !existsSync(join(folder, file))) {
    const what = main === undefined ? `no ${MAIN.join(" nor ")}` : `no ${main}`;
    throw new BuildError(
      `${folder} has ${what}: name the file with the handler or hooks as "main" in package.json`,
    );
  }
  return file;
}

/**
 * The code of the plugin in `folder`, the table that leads back to its files, the interfaces of the
 * host that it imports, and whether it is hooks.
 */
export async function bundle(folder) {
  const main = mainOf(folder);
  const { rolldown } = await tool(folder, "rolldown");
  const warnings = [];
  const bundler = await rolldown({
    input: ENTRY,
    cwd: folder,
    external: /^wasi:/,
    platform: "neutral",
    resolve: {
      alias: { "gw-sdk": SDK },
      conditionNames: ["import", "module", "default"],
      mainFields: ["module", "main"],
    },
    plugins: [entry(folder, main), missing(folder)],
    onLog: (level, log) => level === "warn" && warnings.push(log.message),
  }).catch(refuse);
  try {
    // Nothing is written there: the map names files by their way from `dir`.
    const output = { dir: folder, format: "esm", sourcemap: true };
    const generated = await bundler.generate(output).catch(refuse);
    const [chunk] = generated.output;
    for (const warning of warnings) console.error(`warning: ${warning}`);
    const { mappings, sources } = chunk.map;
    const table = { sources: sources.map((source) => named(folder, source)) };
    table.lines = linesOf(mappings);
    const imports = chunk.imports.filter((name) => /^wasi:/.test(name));
    // What a plugin does not use is left out: who makes no hooks has no function for it.
    const used = chunk.modules[join(SDK, "src/hooks.js")]?.renderedExports ?? [];
    return { code: chunk.code, table, imports, hooks: used.includes("hooks") };
  } finally {
    await bundler.close();
  }
}

/** The module that everything begins with. */
function entry(folder, main) {
  const file = JSON.stringify(resolve(folder, main));
  const code = [
    `import plugin from ${file};`,
    `import { serve } from ${JSON.stringify(join(SDK, "src/entry.js"))};`,
    `export const { pre, post } = serve(plugin, ${JSON.stringify(main)});`,
  ].join("\n");
  return {
    name: "gw-entry",
    resolveId: (id) => (id === ENTRY ? { id, moduleSideEffects: true } : null),
    load: (id) => (id === ENTRY ? code : null),
  };
}

/** Refuses what is not there, where a bundler would leave it to the run. */
function missing(folder) {
  return {
    name: "gw-missing",
    async resolveId(id, importer, options) {
      if (id === ENTRY || id.startsWith("wasi:")) return null;
      const found = await this.resolve(id, importer, { ...options, skipSelf: true });
      if (found && !found.external) return found;
      const where = importer && importer !== ENTRY ? `${named(folder, importer)}: ` : "";
      if (id.startsWith("node:") || builtinModules.includes(id)) {
        throw new BuildError(
          `${where}"${id}" is part of Node.js, which a plugin does not run in: use what browsers ` +
            "have (fetch, crypto, TextEncoder), or gw-sdk",
        );
      }
      const fix = /^[./]/.test(id) ? "check the path" : `run \`npm install ${id}\` in ${folder}`;
      throw new BuildError(`${where}"${id}" is not found: ${fix}`);
    },
  };
}

/** A file as messages name it: within the project, within the SDK, or as it is. */
function named(folder, file) {
  if (file.startsWith("\0")) return "gw-sdk/entry";
  const path = resolve(folder, file);
  const within = (root) => path.startsWith(root + sep);
  if (within(SDK)) return `gw-sdk/${relative(SDK, path)}`;
  return within(folder) ? relative(folder, path) : path;
}

/** The bundler's own words, which have the file, the line and the code. */
function refuse(error) {
  const reasons = error.errors?.map((inner) => inner.message) ?? [error.message];
  const own = reasons.map((reason) => reason.replace(/^\[plugin [^\]]*\]\s*/, ""));
  throw new BuildError(own.join("\n"));
}
