/** The state as the fragment of the page's address, and back. What is as it was at first is left out. */

import { NUMBERS, type Settings } from "./settings";
import { type State, TABS, THEMES } from "./state";

const TEXTS = ["device", "execution", "attention", "dtype", "mode"] as const;
const PAIRS = ["grid", "size"] as const;

export function fragment(state: State, initial: State): string {
  const found = new URLSearchParams();
  for (const key of ["selected", "tab", "stage", "sort", "search", "measure", "theme"] as const) {
    if (state[key] !== initial[key] && state[key] !== null) found.set(key, String(state[key]));
  }
  if (state.descending !== initial.descending) found.set("descending", state.descending ? "1" : "0");
  if (state.flat !== initial.flat) found.set("flat", "1");
  if (state.columns.join() !== initial.columns.join()) found.set("columns", state.columns.join());
  writeSettings(found, state.settings, "");
  if (state.pinned) {
    found.set("pinned", "1");
    writeSettings(found, state.pinned, "pinned.");
  }
  return found.toString();
}

export function readFragment(text: string, initial: State, columns: readonly string[]): State {
  const given = new URLSearchParams(text.replace(/^#/, ""));
  const one = <T extends string>(name: string, known: readonly T[], otherwise: T): T =>
    known.includes(given.get(name) as T) ? (given.get(name) as T) : otherwise;
  const named = (given.get("columns") ?? "").split(",").filter((name) => columns.includes(name));
  return {
    ...initial,
    selected: given.get("selected") ?? initial.selected,
    tab: one("tab", TABS, initial.tab),
    stage: given.get("stage") ?? initial.stage,
    sort: one("sort", ["", ...columns], initial.sort),
    descending: given.has("descending") ? given.get("descending") === "1" : initial.descending,
    columns: given.has("columns") ? named : initial.columns,
    flat: given.get("flat") === "1",
    search: given.get("search") ?? "",
    measure: given.get("measure") ?? initial.measure,
    theme: one("theme", THEMES, initial.theme),
    settings: readSettings(given, ""),
    pinned: given.has("pinned") ? readSettings(given, "pinned.") : null,
  };
}

function writeSettings(found: URLSearchParams, settings: Settings, prefix: string): void {
  for (const name of [...TEXTS, ...NUMBERS]) {
    const value = settings[name];
    if (value !== undefined) found.set(prefix + name, String(value));
  }
  for (const name of PAIRS) {
    const value = settings[name];
    if (value) found.set(prefix + name, value.join("x"));
  }
}

function readSettings(given: URLSearchParams, prefix: string): Settings {
  const found: Settings = {};
  for (const name of TEXTS) {
    const value = given.get(prefix + name);
    if (value !== null) found[name] = value;
  }
  for (const name of NUMBERS) {
    const value = given.get(prefix + name);
    if (value !== null && /^\d{1,15}$/.test(value)) found[name] = Number(value);
  }
  for (const name of PAIRS) {
    const pair = /^(\d{1,9})x(\d{1,9})$/.exec(given.get(prefix + name) ?? "");
    if (pair) found[name] = [Number(pair[1]), Number(pair[2])];
  }
  return found;
}
