// Where an error was thrown, in the plugin's own files.
//
// The build bundles all modules into one and leaves a table behind them that leads back: for each line
// of the bundle its pieces, each `[column, source, line, column]`, counted from 0.

const TABLE = Symbol.for("gw-sdk.sources");
/** A recursion without an end has thousands, and a request may log 16 KiB. */
const FRAMES_MAX = 20;
const MEMORY = "raise `memory` in the `limits` of this plugin's [[plugin]] in gw.toml";
/** The end of a frame, in SpiderMonkey (`name@file:line:column`) as in V8 (`at name (file:…)`). */
const POSITION = /:(\d+):(\d+)\)?$/;
/** The bundle: the frames of what calls it have places of their own. */
const BUNDLE = /(^|\/)plugin\.js$/;

/** The place of an error, such as `index.js:12:7`, and its message with all frames. */
export function located(error, table = globalThis[TABLE]) {
  const words = error instanceof Error ? `${error.name}: ${error.message}` : `thrown: ${error}`;
  // The engine throws it as plain text.
  const said = error === "out of memory" ? `${words}; ${MEMORY}` : words;
  const frames = framesOf(error, table);
  // The first frame of the plugin itself: what the SDK throws is about its caller.
  const own = frames.find(({ file }) => !/(^|\/)(gw-sdk|node_modules)\//.test(file));
  const lines = frames.map(({ name, place }) => `    at ${name ? `${name} (${place})` : place}`);
  const cause = error?.cause ? `\ncaused by: ${located(error.cause, table).text}` : "";
  const where = own ? `${own.place}: ` : "";
  return { place: own?.place ?? "", text: [`${where}${said}`, ...lines].join("\n") + cause };
}

function framesOf(error, table) {
  const stack = typeof error?.stack === "string" ? error.stack.split("\n", FRAMES_MAX) : [];
  return stack.flatMap((text) => {
    const found = text.match(POSITION);
    if (found === null) return [];
    const [line, column] = [Number(found[1]), Number(found[2])];
    const before = text.slice(0, found.index).replace(/^\s*at /, "");
    const cut = Math.max(before.lastIndexOf("@"), before.lastIndexOf("("));
    const name = before.slice(0, Math.max(cut, 0)).trim();
    const file = before.slice(cut + 1);
    if (table && !BUNDLE.test(file)) return [];
    const frame = table ? original(table, line, column) : { file, line, column };
    if (!frame) return [];
    return [{ name, file: frame.file, place: `${frame.file}:${frame.line}:${frame.column}` }];
  });
}

/** The place in a source of a line and a column of the bundle, all counted from 1. */
export function original({ sources, lines }, line, column) {
  const pieces = lines[line - 1] ?? [];
  const piece = pieces.findLast(([start]) => start < column) ?? pieces[0];
  if (piece === undefined) return undefined;
  return { file: sources[piece[1]], line: piece[2] + 1, column: piece[3] + 1 };
}
