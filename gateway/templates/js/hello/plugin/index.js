// Greets whoever is named: {"name": "Ada"} in, {"greeting": "Hello, Ada!"} out.

import { handler, HttpError, json, object, string } from "gw-sdk";

const input = object({ name: string() });

export default handler(async (request) => {
  const { name } = await json(request, input);
  if (name.trim() === "") {
    throw new HttpError(422, "empty_name", "say whom to greet", { field: "name" });
  }
  return { greeting: `Hello, ${name.trim()}!` };
});
