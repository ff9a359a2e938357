// The files that `[[asset]]` in gw.toml names.

import { getDirectories } from "wasi:filesystem/preopens@0.2.10";

const PIECE_BYTES = 1n << 20n;

export function asset(name) {
  const folder = getDirectories().find(([, path]) => path === "/assets");
  const missing = (reason) =>
    new Error(`asset ${JSON.stringify(name)}: ${reason}; name it in an [[asset]] of gw.toml`);
  if (folder === undefined) throw missing("the app has no assets");
  let file;
  try {
    file = folder[0].openAt({}, name, {}, { read: true });
  } catch (error) {
    throw missing(error?.payload ?? error);
  }
  const bytes = new Uint8Array(Number(file.stat().size));
  let end = 0;
  for (;;) {
    const [piece, last] = file.read(PIECE_BYTES, BigInt(end));
    bytes.set(piece, end);
    end += piece.length;
    if (last || piece.length === 0) return bytes.subarray(0, end);
  }
}
