/** The drawings, one at a time behind tabs, all telling the same selection. */

import type { Context } from "../core/context";
import { fill, h, iconButton } from "../core/dom";
import { download, fileName } from "../core/files";
import { createGraph } from "../drawings/graph";
import { createIcicle } from "../drawings/icicle";
import { createRoofline } from "../drawings/roofline";
import { createTimeline } from "../drawings/timeline";
import type { Drawing, Events, IcicleData, RooflineData } from "../drawings/types";
import { type Tab, TABS } from "../core/state";
import { boundName } from "./head";
import { comparison } from "./compare";
import { shortName } from "./table";

const TITLES: Record<Tab, string> = { roofline: "Roofline", icicle: "Icicle", graph: "Call graph", memory: "Memory over the run", compare: "Compare" };

interface Shown {
  element: HTMLElement;
  update(): void;
  select(id: string | null): void;
  hover(id: string | null): void;
  svg?(): string;
}

export class Drawings {
  readonly element: HTMLElement;
  private readonly panel = h("div", { class: "drawing", role: "tabpanel", id: "drawing-panel" });
  private readonly extra = h("span", { class: "tab-extra" });
  private readonly save: HTMLButtonElement;
  private readonly made = new Map<Tab, Shown | string>();
  private readonly tabs = new Map<Tab, HTMLButtonElement>();
  private readonly events: Events;
  /** What each module's name has beyond its caller's. */
  private readonly names: string[];

  constructor(private readonly context: Context) {
    const { store, tree } = context;
    this.names = tree.modules.map((row) => shortName(row.id, row.parent === null ? null : tree.modules[row.parent]!.id));
    this.events = { onSelect: (id) => store.set({ selected: id }), onHover: (id) => this.hover(id) };
    this.save = iconButton("download", "Save the drawing as SVG", () => this.export(), "SVG");
    const list = h("div", { class: "tabs", role: "tablist", "aria-label": "Drawings", onkeydown: (event: KeyboardEvent) => this.onKey(event) });
    for (const tab of TABS) {
      const button = h("button", { type: "button", role: "tab", id: `tab-${tab}`, "aria-controls": "drawing-panel", onclick: () => store.set({ tab }) }, TITLES[tab]);
      this.tabs.set(tab, button);
      list.append(button);
    }
    this.element = h("section", { class: "drawings", "aria-label": "Drawings" }, h("div", { class: "tab-row" }, list, h("span", { class: "spacer" }), this.extra, this.save), this.panel);
    store.watch(["tab"], () => this.show());
    store.watch(["settings", "pinned", "measure", "stage"], () => this.updateShown());
    store.watch(["selected"], () => this.selectShown());
    store.watch(["theme"], () => this.updateShown());
    this.show();
  }

  hover(id: string | null): void {
    const shown = this.made.get(this.context.store.state.tab);
    if (typeof shown === "object") shown.hover(id);
  }

  private show(): void {
    const { tab } = this.context.store.state;
    for (const [name, button] of this.tabs) {
      button.setAttribute("aria-selected", String(name === tab));
      button.tabIndex = name === tab ? 0 : -1;
    }
    this.panel.setAttribute("aria-labelledby", `tab-${tab}`);
    this.panel.className = `drawing drawing-${tab}`;
    let shown = this.made.get(tab);
    const isNew = shown === undefined;
    if (shown === undefined) this.made.set(tab, (shown = this.make(tab)));
    if (typeof shown === "string") {
      fill(this.panel, h("p", { class: "empty" }, shown));
      this.panel.tabIndex = 0;
    } else {
      this.panel.removeAttribute("tabindex");
      fill(this.panel, shown.element);
      if (!isNew) shown.update();
      this.selectShown();
    }
    this.save.hidden = typeof shown === "string" || !shown.svg;
    fill(this.extra, tab === "icicle" && typeof shown !== "string" ? this.measures() : null);
  }

  private updateShown(): void {
    const shown = this.made.get(this.context.store.state.tab);
    if (typeof shown === "object") {
      shown.update();
      this.selectShown();
    } else this.made.delete(this.context.store.state.tab);
    if (shown === undefined || typeof shown === "string") this.show();
  }

  private selectShown(): void {
    const { store, tree } = this.context;
    const place = tree.family(store.state.selected);
    const shown = this.made.get(store.state.tab);
    if (typeof shown === "object") shown.select(place < 0 ? store.state.selected : tree.modules[place]!.id);
  }

  private onKey(event: KeyboardEvent): void {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const at = TABS.indexOf(this.context.store.state.tab);
    const next = event.key === "Home" ? 0 : event.key === "End" ? TABS.length - 1 : step ? (at + step + TABS.length) % TABS.length : -1;
    if (next < 0) return;
    event.preventDefault();
    this.context.store.set({ tab: TABS[next]! });
    this.tabs.get(TABS[next]!)!.focus();
  }

  private export(): void {
    const { tab } = this.context.store.state;
    const shown = this.made.get(tab);
    if (typeof shown === "object" && shown.svg) download(fileName(this.context.data.title, tab) + ".svg", "image/svg+xml;charset=utf-8", shown.svg());
  }

  /** The drawing of a tab, or why there is none. */
  private make(tab: Tab): Shown | string {
    const { data } = this.context;
    switch (tab) {
      case "roofline": {
        const points = this.roofline();
        return points ? drawn(createRoofline(this.events, points), () => this.roofline()!) : data.report ? `The roofline cannot be drawn: ${data.why_not_live}.` : "The roofline needs a report: a call graph alone knows no device. Give a report.json to modelmeter report.";
      }
      case "icicle":
        return data.modules.length ? drawn(createIcicle(this.events, this.icicle()), () => this.icicle()) : "No module ran.";
      case "graph":
        return data.graph ? fixed(createGraph(this.events, data.graph)) : "The call graph is not part of this page. Give a callgraph.json of modelmeter trace as well.";
      case "memory":
        return data.timeline ? fixed(createTimeline(this.events, data.timeline)) : "Memory over the run is not part of this page. Give a callgraph.json of modelmeter trace as well.";
      case "compare":
        return comparison(this.context);
    }
  }

  /** Own work of every module and stage, and the device's roofs; null where no device is known. */
  private roofline(): RooflineData | null {
    const { context } = this;
    const answer = context.answer();
    if (!answer) return null;
    const { figures } = answer;
    const kinds = { vision: answer.variant.vision_attention, decoder: answer.variant.decoder_attention };
    const stages = context.stages();
    const { modules } = context.tree;
    const points = modules.flatMap((row, place) =>
      stages.flatMap((stage) => {
        const [flops, bytes, seconds] = ["own_flops", "own_bytes", "own_span"].map((measure) => figures.of(place, stage, measure) ?? 0);
        if (!flops || !bytes || !seconds) return [];
        const isAttention = (figures.get(`${place}/all/attention/flops`) ?? 0) > 0 && context.tree.children[place]!.length > 0 && /attention|attn/i.test(row.class);
        const kind = stage === "vision" ? kinds.vision : kinds.decoder;
        return [{ id: row.id, stage, label: this.labelled(place, stage), flops, bytes, seconds, bound: boundName(figures.of(place, stage, "bound")), ...(isAttention && kind ? { kind } : {}) }];
      }),
    );
    const roofs = Object.entries(answer.device.keys)
      .filter(([name]) => name.startsWith("peak.") && answer.variant.needs.includes(name.slice(5)))
      .map(([name, value]) => ({ label: `${name.slice(5)} peak`, flopsPerSecond: value }));
    return { points, roofs, bytesPerSecond: answer.device.keys.bandwidth ?? 0 };
  }

  /** A module's own name, its caller's before it where others have the same, and the stage where it runs in several. */
  private labelled(place: number, stage: string): string {
    const { tree } = this.context;
    const name = this.names[place]!;
    const { parent } = tree.modules[place]!;
    const isOnly = parent === null || this.names.indexOf(name) === this.names.lastIndexOf(name);
    const figures = this.context.figures();
    const runs = this.context.stages().filter((one) => figures.of(place, one, "own_flops"));
    return `${isOnly ? "" : `${this.names[parent]}.`}${name}${runs.length > 1 ? `, ${stage}` : ""}`;
  }

  private icicle(): IcicleData {
    const { context } = this;
    const figures = context.figures();
    const measure = this.measure();
    const stage = OF_RUN.includes(measure) ? "all" : context.store.state.stage;
    const [, unit] = MEASURES[measure]!;
    const { modules, children } = context.tree;
    const nodes = modules.map((row, place) => {
      const total = figures.of(place, stage, measure) ?? 0;
      const below = children[place]!.reduce((sum, child) => sum + (figures.of(child, stage, measure) ?? 0), 0);
      const parent = row.parent === null ? null : modules[row.parent]!.id;
      return { id: row.id, parent, label: shortName(row.id, parent), stage: row.stage, own: Math.max(0, total - below), total };
    });
    return { nodes, measure: MEASURES[measure]![0], unit };
  }

  private measure(): string {
    const { measure } = this.context.store.state;
    const known = this.knownMeasures();
    return known.includes(measure) ? measure : (known[0] ?? "flops");
  }

  private knownMeasures(): string[] {
    const figures = this.context.figures();
    return Object.keys(MEASURES).filter((measure) => (figures.of(0, "all", measure) ?? 0) > 0);
  }

  private measures(): HTMLElement {
    const { store } = this.context;
    const select = h("select", { "aria-label": "What widths stand for", onchange: () => store.set({ measure: select.value }) }, ...this.knownMeasures().map((name) => h("option", { value: name }, MEASURES[name]![0])));
    select.value = this.measure();
    return select;
  }
}

const MEASURES: Record<string, [string, IcicleData["unit"]]> = {
  estimate: ["Time", "seconds"],
  flops: ["FLOPs", "flops"],
  bytes: ["Bytes moved", "bytes"],
  launches: ["Launches", "count"],
  peak: ["Peak memory", "bytes"],
  weights: ["Weights", "bytes"],
  cache: ["KV cache", "bytes"],
};

/** Measures that no stage has by itself. */
const OF_RUN = ["peak", "weights", "cache"];

/** A drawing of the traced run, which settings do not change. */
function fixed<Data>(drawing: Drawing<Data>): Shown {
  return { ...drawn(drawing, () => null as never), update: () => undefined };
}

function drawn<Data>(drawing: Drawing<Data>, data: () => Data): Shown {
  return {
    element: drawing.element,
    update: () => drawing.update(data()),
    select: (id) => drawing.select(id),
    hover: (id) => drawing.hover(id),
    svg: () => drawing.svg(),
  };
}
