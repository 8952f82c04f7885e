/** From settings to figures: keys for the expressions, what cannot be, and the largest batch. No formula is here. */

import type { Device, Live, Variant } from "./data";
import { Expressions } from "./expressions";
import { type Figures, WorkedFigures } from "./figures";
import { command, type Settings, variantOf } from "./settings";
import { exactBytes } from "./format";

export interface Answer {
  settings: Settings;
  figures: Figures;
  device: Device;
  variant: Variant;
  /** Why a command would refuse this; figures are then what they would be, and unknown where the device lacks one. */
  refusals: string[];
  grid: [number, number] | null;
  /** The page's size in pixels, where it is given so. */
  size: [number, number] | null;
  pages: number | undefined;
  largestBatch: number | undefined;
  command: string;
}

export class WhatIf {
  readonly expressions: Expressions;
  private readonly places: Map<string, number>;
  private readonly known = new Map<string, Answer>();

  constructor(readonly live: Live) {
    this.expressions = new Expressions(live.graph);
    this.places = new Map(live.graph.names.map((name, place) => [name, place]));
  }

  /** Everything for some settings; the last ones are remembered. */
  ask(settings: Settings): Answer {
    const name = JSON.stringify(settings);
    let found = this.known.get(name);
    if (!found) {
      if (this.known.size > 8) this.known.delete(this.known.keys().next().value!);
      found = this.worked(settings);
      this.known.set(name, found);
    }
    return found;
  }

  private worked(settings: Settings): Answer {
    const { live, expressions } = this;
    const device = live.devices.find((one) => one.id === (settings.device ?? live.levers.device.value))!;
    const variant = variantOf(settings, live.variants);
    const keys = this.keys(settings, device, variant);
    const figures = new WorkedFigures(expressions.all(variant, keys), this.places);
    const page = live.levers.page;
    const grid: [number, number] | null = page.reason ? null : [keys[page.columns]!, keys[page.rows]!];
    const chosen = live.variants[variant]!;
    const refusals = this.refusals(settings, keys, device, chosen, figures, grid);
    return {
      settings,
      figures,
      device,
      variant: chosen,
      refusals,
      grid,
      size: page.reason || settings.grid ? null : (settings.size ?? page.size),
      pages: keys[live.levers.pages.key],
      largestBatch: this.largestBatch(variant, keys),
      command: this.command(settings),
    };
  }

  /** Values of all keys. */
  private keys(settings: Settings, device: Device, variant: number): Record<string, number> {
    const { live, expressions } = this;
    const { levers } = live;
    const keys: Record<string, number> = { ...live.keys, ...device.keys };
    if (settings.execution) keys.eager = settings.execution === "eager" ? 1 : 0;
    if (settings.mode !== undefined) Object.assign(keys, levers.mode.choices![settings.mode]);
    const isNewPage = settings.grid ?? settings.size ?? settings.pages;
    if (isNewPage !== undefined) keys[levers.text_tokens.key] = levers.page.text_tokens;
    for (const name of ["batch", "pages", "text_tokens", "decode_steps"] as const) {
      const value = settings[name];
      if (value !== undefined) keys[levers[name].key] = value;
    }
    const page = levers.page;
    if (page.reason) return keys;
    const size = settings.grid ? null : (settings.size ?? page.size);
    if (settings.grid) [keys[page.columns], keys[page.rows]] = settings.grid;
    if (size) {
      const sized = { ...keys, page_width: size[0], page_height: size[1] };
      const rules = [page.columns, page.rows];
      const sides = expressions.some(variant, rules.map((name) => `page/${name}`), sized);
      rules.forEach((name, place) => (keys[name] = sides[place]!));
    }
    return keys;
  }

  private refusals(
    settings: Settings,
    keys: Record<string, number>,
    device: Device,
    variant: Variant,
    figures: Figures,
    grid: [number, number] | null,
  ): string[] {
    const found: string[] = [];
    const { page } = this.live.levers;
    const givenByGrid = settings.grid ?? (settings.size || page.size ? null : page.grid);
    if (grid && givenByGrid && keys.crop_mode === 0 && (grid[0] !== 1 || grid[1] !== 1)) {
      found.push(`grid ${grid[0]}x${grid[1]} with cropping off: choose the grid 1×1, or a mode that crops`);
    }
    const left = figures.get("run/positions_left");
    if (left !== undefined && left < 0) {
      const prompt = figures.get("run/prompt_positions");
      const steps = keys[this.live.levers.decode_steps.key];
      const most = figures.get("run/max_positions");
      found.push(`${prompt} prompt positions and ${steps} decode steps exceed the model's ${most}`);
    }
    const lacking = variant.needs.find((name) => name in device.lacks);
    if (lacking) found.push(device.lacks[lacking]!);
    const headroom = figures.get("run/headroom_bytes");
    if (headroom !== undefined && headroom < 0) {
      const need = exactBytes(figures.get("run/memory_bytes") ?? 0);
      const capacity = exactBytes(device.keys.memory_bytes ?? 0);
      found.push(`the run does not fit ${device.id}: it takes ${need} of ${capacity}: ${exactBytes(-headroom)} are missing`);
    }
    return found;
  }

  /** The most requests that fit the device's memory together, by halving; 0 if not even one does. */
  private largestBatch(variant: number, keys: Record<string, number>): number | undefined {
    const { key, max, reason } = this.live.levers.batch;
    if (reason) return undefined;
    const names = ["run/headroom_bytes", "run/positions_left"];
    const fits = (batch: number): boolean => {
      const [headroom, left] = this.expressions.some(variant, names, { ...keys, [key]: batch });
      return headroom! >= 0 && !(left! < 0);
    };
    if (!fits(1)) return 0;
    let fitting = 1;
    let beyond = 2;
    while (beyond <= max && fits(beyond)) [fitting, beyond] = [beyond, beyond * 2];
    while (beyond - fitting > 1) {
      const middle = Math.floor((fitting + beyond) / 2);
      if (fits(middle)) fitting = middle;
      else beyond = middle;
    }
    return fitting;
  }

  private command(settings: Settings): string {
    const page = this.live.levers.page;
    if (page.reason) return command(settings);
    const size = settings.grid ? null : (settings.size ?? page.size);
    const grid = settings.grid ?? page.grid;
    if (!settings.grid && !settings.size && settings.pages === undefined) return command(settings);
    const one = size ? `--page ${size[0]}x${size[1]}` : `--grid ${grid[0]}x${grid[1]}`;
    const count = settings.pages ?? this.live.levers.pages.value ?? 1;
    return [command(settings), ...new Array<string>(Math.min(count, 8)).fill(one), ...(count > 8 ? ["…"] : [])].join(" ");
  }
}
