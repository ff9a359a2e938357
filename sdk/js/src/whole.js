// Requests and responses, whole, as the host gives them to hooks and takes them back.

/** A header's bytes as text: one character each, as the Fetch standard has it. */
const textOf = ([name, value]) => [name, String.fromCharCode(...value)];
const bytesOf = ([name, value]) => [name, Uint8Array.from(value, (char) => char.charCodeAt(0))];

/** What has no body by the standard must not be made with one. */
const BARE_METHODS = ["GET", "HEAD"];
const BARE_STATUSES = [204, 205, 304];

export function requestOf({ method, pathWithQuery, headers, body }) {
  const texts = headers.map(textOf);
  const host = texts.find(([name]) => name === "host")?.[1] ?? "localhost";
  const bare = body.length === 0 || BARE_METHODS.includes(method);
  const url = `http://${host}${pathWithQuery}`;
  return new Request(url, { method, headers: texts, body: bare ? undefined : body });
}

export async function wholeRequest(request) {
  const { host, pathname, search } = new URL(request.url);
  const headers = Array.from(request.headers);
  // The engine takes it out of the headers of a Request.
  if (!request.headers.has("host")) headers.push(["host", host]);
  return {
    method: request.method,
    pathWithQuery: pathname + search,
    headers: headers.map(bytesOf),
    body: new Uint8Array(await request.arrayBuffer()),
  };
}

export function responseOf({ status, headers, body }) {
  const bare = body.length === 0 || BARE_STATUSES.includes(status);
  return new Response(bare ? null : body, { status, headers: headers.map(textOf) });
}

export async function wholeResponse(response) {
  return {
    status: response.status,
    headers: Array.from(response.headers, bytesOf),
    body: new Uint8Array(await response.arrayBuffer()),
  };
}
