/** Figures by name: `<module>/<stage>/<measure>` and `run/<figure>`; what is not known is undefined. */

import type { SubjectData } from "./data";

export interface Figures {
  get(name: string): number | undefined;
  of(module: number, stage: string, measure: string): number | undefined;
}

/** Figures that expressions gave. */
export class WorkedFigures implements Figures {
  constructor(
    private readonly values: Float64Array,
    private readonly places: ReadonlyMap<string, number>,
  ) {}

  get(name: string): number | undefined {
    const place = this.places.get(name);
    return place === undefined ? undefined : known(this.values[place]);
  }

  of(module: number, stage: string, measure: string): number | undefined {
    return this.get(`${module}/${stage}/${measure}`);
  }
}

/** Figures that stand in a document. */
export class FixedFigures implements Figures {
  constructor(private readonly found: SubjectData["figures"]) {}

  get(name: string): number | undefined {
    if (name.startsWith("run/")) return known(this.found.run[name]);
    const cut = name.indexOf("/");
    return known(this.found.columns[name.slice(cut + 1)]?.[Number(name.slice(0, cut))]);
  }

  of(module: number, stage: string, measure: string): number | undefined {
    return known(this.found.columns[`${stage}/${measure}`]?.[module]);
  }
}

function known(value: number | null | undefined): number | undefined {
  return value === null || value === undefined || Number.isNaN(value) ? undefined : value;
}

/** Low, estimate and high of a figure; undefined where there is none. */
export function interval(figures: Figures, name: string): { low: number; estimate: number; high: number } | undefined {
  const [low, estimate, high] = ["low", "estimate", "high"].map((one) => figures.get(`${name}/${one}`));
  if (estimate === undefined || !Number.isFinite(estimate)) return undefined;
  return { low: low ?? estimate, estimate, high: high ?? estimate };
}
