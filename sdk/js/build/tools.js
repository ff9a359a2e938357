// The tools that a project pins in its package.json: this package is linked, and brings none.

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

/** What is wrong with the plugin, for the person who writes it. */
export class BuildError extends Error {}

/** The module `name`, of the project in `folder` or of the workspace around it. */
export async function tool(folder, name) {
  for (let at = folder; ; at = dirname(at)) {
    const home = join(at, "node_modules", name);
    const manifest = join(home, "package.json");
    if (existsSync(manifest)) {
      const { exports } = JSON.parse(readFileSync(manifest, "utf8"));
      return import(pathToFileURL(join(home, fileOf(exports["."] ?? exports))));
    }
    if (at === dirname(at)) break;
  }
  throw new BuildError(
    `${name} is not installed in ${folder}: run \`npm install\` there; where package.json does ` +
      `not name it, \`npm install --save-dev ${name}\``,
  );
}

/** The file for `import` among the conditions of an export. */
function fileOf(exported) {
  return typeof exported === "string" ? exported : fileOf(exported.import ?? exported.default);
}
