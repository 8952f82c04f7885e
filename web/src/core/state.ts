/** What a visitor sees and chose, in one place; views are told what changed. */

import type { Settings } from "./settings";

export const TABS = ["roofline", "icicle", "graph", "memory", "compare"] as const;
export type Tab = (typeof TABS)[number];

export const THEMES = ["auto", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

export interface State {
  /** A module's id, or that of a single module of a family. */
  selected: string | null;
  tab: Tab;
  stage: string;
  /** A column, or nothing for the order of the model. */
  sort: string;
  descending: boolean;
  columns: string[];
  flat: boolean;
  search: string;
  measure: string;
  theme: Theme;
  settings: Settings;
  /** Settings whose figures are the ones compared with; null for another document, or the report as it was made. */
  pinned: Settings | null;
}

export type Key = keyof State;

export class Store {
  private readonly listeners: { keys: ReadonlySet<Key>; call: () => void }[] = [];

  constructor(public state: Readonly<State>) {}

  /** Changes something; views that watch it are told, once each and in the order in which they came. */
  set(changes: Partial<State>): void {
    const changed = (Object.keys(changes) as Key[]).filter((key) => !same(changes[key], this.state[key]));
    if (!changed.length) return;
    this.state = { ...this.state, ...changes };
    for (const { keys, call } of [...this.listeners]) if (changed.some((key) => keys.has(key))) call();
  }

  watch(keys: Key[], call: () => void): void {
    this.listeners.push({ keys: new Set(keys), call });
  }
}

function same(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
