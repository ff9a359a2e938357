// Source maps (ECMA-426), read while building so that a plugin need not read them.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** `mappings` as the table that `src/trace.js` reads. */
export function linesOf(mappings) {
  // All but the column in the bundle goes on from line to line.
  const last = [0, 0, 0];
  return mappings.split(";").map((line) => {
    let start = 0;
    return line.split(",").flatMap((segment) => {
      const [moved, ...fields] = numbers(segment);
      if (moved === undefined) return [];
      start += moved;
      if (fields.length < last.length) return [];
      last.forEach((value, index) => (last[index] = value + fields[index]));
      return [[start, ...last]];
    });
  });
}

/** The numbers of one segment: base 64, five bits a digit, the sign in the lowest. */
function numbers(segment) {
  const found = [];
  let [value, shift] = [0, 0];
  for (const character of segment) {
    const digit = DIGITS.indexOf(character);
    value += (digit & 31) << shift;
    shift += 5;
    if (digit & 32) continue;
    found.push(value & 1 ? -(value >> 1) : value >> 1);
    [value, shift] = [0, 0];
  }
  return found;
}
