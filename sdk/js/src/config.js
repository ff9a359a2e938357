// The values of `config` and the secrets that `secrets` names in gw.toml.

import { get as getValue, getAll as getValues } from "wasi:config/store@0.2.0-rc.1";

import { granted } from "./grants.js";

export function get(key) {
  return granted("the configuration", () => getValue(key)) ?? undefined;
}

export function getAll() {
  return Object.fromEntries(granted("the configuration", getValues));
}
