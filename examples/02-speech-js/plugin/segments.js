// From one probability per chunk to segments of speech.

export const RATE = 16000;
/** Samples of a chunk: 32 ms. */
export const CHUNK = 512;
/** Speech begins at the first and goes on down to the second, so that it does not flicker. */
const BEGINS = 0.5;
const ENDS = 0.35;
/** A pause shorter than this belongs to the speech around it, in chunks: 96 ms. */
const PAUSE = 3;

/** `[{start, end}]` in seconds. */
export function segments(probabilities) {
  const found = [];
  let open = null;
  probabilities.forEach((probability, index) => {
    if (open === null && probability >= BEGINS) {
      const last = found.at(-1);
      const resumes = last !== undefined && index - last.end < PAUSE;
      open = resumes ? found.pop().start : index;
    } else if (open !== null && probability < ENDS) {
      found.push({ start: open, end: index });
      open = null;
    }
  });
  if (open !== null) found.push({ start: open, end: probabilities.length });
  const seconds = (chunks) => (chunks * CHUNK) / RATE;
  return found.map(({ start, end }) => ({ start: seconds(start), end: seconds(end) }));
}
