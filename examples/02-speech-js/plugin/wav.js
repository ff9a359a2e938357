// WAV files: 16-bit samples, one channel, 16 kHz.

import { HttpError } from "gw-sdk";

import { RATE } from "./segments.js";

const refused = (message) => new HttpError(422, "unsupported_audio", message, { field: "body" });

/** The samples of a WAV file, from -1 to 1. */
export function samplesOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tag = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (tag(0) !== "RIFF" || tag(8) !== "WAVE") throw refused("the body is no WAV file");
  let format = null;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const [name, size, start] = [tag(at), view.getUint32(at + 4, true), at + 8];
    const end = Math.min(start + size, bytes.length);
    if (name === "fmt " && size >= 16 && end === start + size) {
      const [kind, channels] = [view.getUint16(start, true), view.getUint16(start + 2, true)];
      const [rate, bits] = [view.getUint32(start + 4, true), view.getUint16(start + 14, true)];
      format = { kind, channels, rate, bits };
    }
    if (name === "data") {
      check(format);
      const count = Math.floor((end - start) / 2);
      return Float32Array.from({ length: count }, (_, index) => {
        return view.getInt16(start + 2 * index, true) / 32768;
      });
    }
    // Chunks begin at even places.
    at = end + (size % 2);
  }
  throw refused("the WAV file has no samples");
}

function check(format) {
  if (format === null) throw refused("the WAV file does not say its format");
  const { kind, channels, rate, bits } = format;
  const PCM = 1;
  if (kind !== PCM || channels !== 1 || rate !== RATE || bits !== 16) {
    const given = `${channels} channels of ${bits} bits at ${rate} Hz`;
    throw refused(`the WAV file has ${given}; send one channel of 16 bits at ${RATE} Hz`);
  }
}
