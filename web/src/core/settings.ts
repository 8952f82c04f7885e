/** What a visitor set: only what differs from the report is there. */

import type { Levers, Live, Variant } from "./data";

export interface Settings {
  device?: string;
  execution?: string;
  attention?: string;
  dtype?: string;
  batch?: number;
  pages?: number;
  text_tokens?: number;
  decode_steps?: number;
  mode?: string;
  grid?: [number, number];
  size?: [number, number];
}

export const NUMBERS = ["batch", "pages", "text_tokens", "decode_steps"] as const;

/** The same settings without those that have the report's own value. */
export function normalized(settings: Settings, live: Live): Settings {
  const { levers, variants } = live;
  const own = variants[0]!;
  const found: Settings = { ...settings };
  for (const name of NUMBERS) if (found[name] === levers[name].value) delete found[name];
  if (found.device === levers.device.value) delete found.device;
  if (found.execution === levers.execution.value) delete found.execution;
  if (found.attention === own.attention) delete found.attention;
  if (found.dtype === own.dtype) delete found.dtype;
  if (found.mode !== undefined && found.mode === levers.mode.value) delete found.mode;
  const page = levers.page;
  if (!page.reason) {
    if (found.size && page.size && same(found.size, page.size)) delete found.size;
    if (found.grid && !page.size && same(found.grid, page.grid)) delete found.grid;
  }
  return found;
}

function same(a: [number, number], b: [number, number]): boolean {
  return a[0] === b[0] && a[1] === b[1];
}

/** Settings that a link or a file holds, kept where they are possible: a lever that is out of use stays untouched. */
export function allowed(settings: Settings, live: Live | undefined): Settings {
  if (!live) return {};
  const { levers, variants } = live;
  const found: Settings = {};
  for (const name of NUMBERS) {
    const lever = levers[name];
    const value = settings[name];
    if (value !== undefined && !lever.reason && Number.isSafeInteger(value)) {
      found[name] = Math.min(lever.max, Math.max(lever.min, value));
    }
  }
  if (live.devices.some((device) => device.id === settings.device)) found.device = settings.device!;
  if (["eager", "graph"].includes(settings.execution ?? "")) found.execution = settings.execution!;
  if (variants.some((one) => one.attention === settings.attention)) found.attention = settings.attention!;
  if (variants.some((one) => one.dtype === settings.dtype)) found.dtype = settings.dtype!;
  if (settings.mode !== undefined && levers.mode.choices?.[settings.mode]) found.mode = settings.mode;
  Object.assign(found, allowedPage(settings, levers));
  return normalized(found, live);
}

function allowedPage(settings: Settings, levers: Levers): Settings {
  const page = levers.page;
  if (page.reason) return {};
  const { size, grid } = settings;
  if (size?.every((side) => Number.isSafeInteger(side) && side >= 1 && side <= page.max)) return { size };
  if (grid && [...page.grids.crops, ...page.grids.whole].some((one) => same(one, grid))) return { grid };
  return {};
}

/** The variant that settings choose, by its place. */
export function variantOf(settings: Settings, variants: Variant[]): number {
  const own = variants[0]!;
  const attention = settings.attention ?? own.attention;
  const dtype = settings.dtype ?? own.dtype;
  return variants.findIndex((one) => one.attention === attention && one.dtype === dtype);
}

/** The command that gives the same figures. */
export function command(settings: Settings): string {
  const words = ["modelmeter what-if report.json"];
  if (settings.device) words.push(`--device ${settings.device}`);
  if (settings.execution) words.push(`--execution ${settings.execution}`);
  if (settings.attention) words.push(`--attention ${settings.attention}`);
  if (settings.dtype) words.push(`--dtype ${settings.dtype}`);
  if (settings.mode) words.push(`--mode ${settings.mode}`);
  return words.concat(sizes(settings)).join(" ");
}

function sizes(settings: Settings): string[] {
  const words: string[] = [];
  if (settings.batch !== undefined) words.push(`--batch ${settings.batch}`);
  if (settings.text_tokens !== undefined) words.push(`--text-tokens ${settings.text_tokens}`);
  if (settings.decode_steps !== undefined) words.push(`--decode-steps ${settings.decode_steps}`);
  return words;
}
