// What a plugin is not granted, said as an error.

/** The answer of a host function whose errors are `{tag, val}`: the host's words name the grant. */
export function granted(what, call) {
  try {
    return call();
  } catch (error) {
    const told = error?.payload;
    if (told?.tag === undefined) throw error;
    const reason = typeof told.val === "string" ? told.val : told.tag.replaceAll("-", " ");
    throw new Error(`${what}: ${reason}`);
  }
}
