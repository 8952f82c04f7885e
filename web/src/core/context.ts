/** What every view is given: the data, the tree, the state, and the figures for the present settings. */

import type { PageData } from "./data";
import { type Figures, FixedFigures } from "./figures";
import type { Store } from "./state";
import type { Tree } from "./tree";
import { type Answer, WhatIf } from "./what-if";

export interface Baseline {
  title: string;
  figures: Figures;
  /** The place of a module of this page among the baseline's; -1 where it has none. */
  place(module: number): number;
  /** Modules that only the baseline has. */
  missing: string[];
}

export class Context {
  readonly whatIf: WhatIf | null;
  private readonly fixed: Figures;
  private readonly baselines = new Map<string, Baseline>();

  constructor(
    readonly data: PageData,
    readonly tree: Tree,
    readonly store: Store,
    readonly say: (text: string) => void,
  ) {
    this.whatIf = data.live ? new WhatIf(data.live) : null;
    this.fixed = new FixedFigures(data.figures);
  }

  /** The answer to the present settings; null where the page cannot be asked. */
  answer(): Answer | null {
    return this.whatIf?.ask(this.store.state.settings) ?? null;
  }

  figures(): Figures {
    return this.answer()?.figures ?? this.fixed;
  }

  isChanged(): boolean {
    return Object.keys(this.store.state.settings).length > 0;
  }

  /** Stages that the run has, in order. */
  stages(): string[] {
    const figures = this.figures();
    return ["vision", "projector", "prefill", "decode", "other"].filter((stage) =>
      ["estimate", "flops", "bytes"].some((measure) => (figures.of(0, stage, measure) ?? 0) > 0),
    );
  }

  /** What the present figures are compared with: pinned settings, another document, or the report as it was made. */
  baseline(): Baseline | null {
    const { pinned } = this.store.state;
    if (pinned && this.whatIf) return this.known(`pinned ${JSON.stringify(pinned)}`, () => this.own("the pinned state", pinned));
    if (this.data.other) return this.known("other", () => this.other());
    if (this.isChanged() && this.whatIf) return this.known("report", () => this.own("the report as it was made", {}));
    return null;
  }

  private known(name: string, make: () => Baseline): Baseline {
    let found = this.baselines.get(name);
    if (!found) this.baselines.set(name, (found = make()));
    return found;
  }

  private own(title: string, settings: object): Baseline {
    return { title, figures: this.whatIf!.ask(settings).figures, place: (module) => module, missing: [] };
  }

  private other(): Baseline {
    const other = this.data.other!;
    const places = new Map(other.modules.map((row, place) => [row.id, place]));
    const mine = new Set(this.tree.modules.map((row) => row.id));
    return {
      title: other.report ? `${other.title} (${other.report.id})` : other.title,
      figures: new FixedFigures(other.figures),
      place: (module) => places.get(this.tree.modules[module]!.id) ?? -1,
      missing: other.modules.filter((row) => !mine.has(row.id)).map((row) => row.id),
    };
  }
}
