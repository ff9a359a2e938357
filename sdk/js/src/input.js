// The body of a request, read as JSON and checked against a description.
//
// A description is a function `(value, path) => value` that throws a 422 with the path of what is
// wrong, such as `texts[3]`.

import { HttpError } from "./errors.js";

function wrong(path, code, message) {
  return new HttpError(422, code, `${path} ${message}`, { field: path });
}

function kindOf(value) {
  if (value === null) return "null";
  if (Math.abs(value) === Infinity) return "a number too large to hold";
  return Array.isArray(value) ? "a list" : KINDS[typeof value];
}
const KINDS = {
  boolean: "true or false",
  number: "a number",
  object: "an object",
  string: "a text",
};

function bounded(value, measure, path, { min = -Infinity, max = Infinity }, unit, codes) {
  if (measure < min) throw wrong(path, codes[0], `has ${measure} ${unit}; at least ${min} wanted`);
  if (measure > max) throw wrong(path, codes[1], `has ${measure} ${unit}; at most ${max} wanted`);
  return value;
}

function expect(holds, value, path, wanted) {
  if (value === undefined) throw wrong(path, "missing_field", `is missing; it is ${wanted}`);
  if (!holds) throw wrong(path, "invalid_type", `is ${kindOf(value)}, not ${wanted}`);
}

export const string = (limits = {}) => (value, path) => {
  expect(typeof value === "string", value, path, "a text");
  // Characters as people count them, not the halves of emoji.
  const length = [...value].length;
  return bounded(value, length, path, limits, "characters", ["too_short", "too_long"]);
};

export const boolean = () => (value, path) => {
  expect(typeof value === "boolean", value, path, "true or false");
  return value;
};

function numeric(holds, wanted, { min = -Infinity, max = Infinity }) {
  return (value, path) => {
    expect(holds(value), value, path, wanted);
    if (value < min || value > max) {
      throw wrong(path, "out_of_range", `is ${value}; it lies within ${min} and ${max}`);
    }
    return value;
  };
}

export const number = (limits = {}) => numeric(Number.isFinite, "a number", limits);
export const integer = (limits = {}) => numeric(Number.isSafeInteger, "a whole number", limits);

export const array = (item, limits = {}) => (value, path) => {
  expect(Array.isArray(value), value, path, "a list");
  bounded(value, value.length, path, limits, "items", ["too_few_items", "too_many_items"]);
  return value.map((entry, index) => item(entry, `${path}[${index}]`));
};

export const optional = (inner) => (value, path) =>
  value === undefined || value === null ? undefined : inner(value, path);

export const object = (fields) => (value, path) => {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  expect(isObject, value, path, "an object");
  const prefix = path === "body" ? "" : `${path}.`;
  // `constructor` and the like are no fields of what came.
  const field = (name) => (Object.hasOwn(value, name) ? value[name] : undefined);
  const read = ([name, inner]) => [name, inner(field(name), `${prefix}${name}`)];
  return Object.fromEntries(Object.entries(fields).map(read));
};

export async function json(request, description = (value) => value) {
  let value;
  try {
    value = JSON.parse(await request.text());
  } catch (error) {
    throw new HttpError(400, "invalid_json", `the body is no JSON: ${error.message}`, {
      field: "body",
    });
  }
  return description(value, "body");
}
