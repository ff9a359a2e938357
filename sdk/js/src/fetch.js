// The engine's `fetch` rejects with neither a place nor a reason.

/** Makes a rejected `fetch` say what was asked for, from where, and what it may need. */
export function explainFetch() {
  const send = globalThis.fetch;
  globalThis.fetch = (input, options) => {
    const url = input instanceof Request ? input.url : String(input);
    // Made here, where the stack still has the caller.
    const failure = new TypeError(
      `no answer from ${url}; where the log says that it is not granted, add the host to \`http\` ` +
        "of this plugin's [[plugin]] in gw.toml",
    );
    return send(input, options).catch((cause) => {
      failure.cause = cause;
      throw failure;
    });
  };
}
