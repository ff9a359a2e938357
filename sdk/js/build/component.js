// From a folder to a component.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { original } from "../src/trace.js";
import { bundle } from "./bundle.js";
import { BuildError, tool } from "./tools.js";
import { writeWorld } from "./world.js";

const SOURCE = "plugin.js";
const BOTH =
  "the plugin calls `hooks`, and its default export is a handler: a plugin is either, so export " +
  "what `hooks` makes or take it out";

/** The component of the plugin in `folder`. */
export async function build(folder) {
  const { code, table, imports, hooks } = await bundle(folder);
  const { componentize } = await tool(folder, "@bytecodealliance/componentize-js");
  const scratch = await mkdtemp(join(tmpdir(), "gw-sdk-"));
  try {
    const worldName = hooks ? "hooks" : "handler";
    const witPath = await writeWorld(join(scratch, "wit"), worldName, imports);
    const sourcePath = join(scratch, SOURCE);
    // Behind the code, so that its lines stay where the table has them.
    const left = `\nglobalThis[Symbol.for("gw-sdk.sources")] = ${JSON.stringify(table)};\n`;
    await writeFile(sourcePath, code.replace(/\n\/\/# sourceMappingURL=.*\s*$/, "") + left);
    // Only a handler is called by the engine's own event.
    const disableFeatures = hooks ? ["fetch-event"] : [];
    const options = { sourcePath, witPath, worldName, disableFeatures };
    const { component } = await componentize(options).catch((error) => {
      // A handler has neither `pre` nor `post` for the world of hooks.
      const both = hooks && error.message.includes("expected exports list");
      throw new BuildError(both ? BOTH : told(error.message, table));
    });
    return component;
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/** The words of the engine that ran the plugin's top level, with places in the plugin's files. */
function told(message, table) {
  const place = (all, line, column) => {
    const found = original(table, Number(line), Number(column));
    return found ? `${found.file}:${found.line}:${found.column}` : all;
  };
  // The first line names the tool, in a folder of its own.
  const words = message.replace(/^Failed to initialize component.*\n/, "");
  return words.replace(/\S*plugin\.js:(\d+):(\d+)/g, place);
}
