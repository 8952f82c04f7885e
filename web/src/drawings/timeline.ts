/** The timeline: bytes live after each operation of a run, the peak, and who holds it. */

import { Frame } from "./frame";
import { within } from "./ids";
import { counted, exact, quantity, share } from "./numbers";
import { runs } from "./series";
import { STAGES, stageClass } from "./style";
import { attributes, html, mark } from "./svg";
import { fitted, plain, textWidth } from "./text";
import { timelineView, type Held, type TimelineView } from "./timeline-view";
import { spoken, type Note } from "./tooltip";
import type { Drawing, Events, TimelineData } from "./types";

const MARGIN = { left: 66, right: 18, top: 30, bottom: 46 };
const BAR = { gap: 34, width: 26, labels: 250 };
const SMALL = 11;

/** Narrower drawings name the holders in notes only. */
const NARROW = 700;

/** The timeline in an element of its own. */
export function createTimeline(events: Events, data: TimelineData): Drawing<TimelineData> {
  return new Timeline(events, data);
}

class Timeline implements Drawing<TimelineData> {
  private readonly frame = new Frame("mm-timeline", "group", () => this.draw());
  private readonly back = mark("g");
  private readonly chosen = mark("g", { "aria-hidden": "true" });
  private readonly bar = mark("g");
  private readonly cross = mark("g", { "aria-hidden": "true", "data-passing": "", "pointer-events": "none", display: "none" });
  private readonly plot = mark("rect", { class: "mm-plot", tabindex: 0, role: "slider", "data-passing": "" });
  private readonly legend = html("div", { class: "mm-bar" });
  private readonly said = html("span", { class: "mm-said" });
  private view: TimelineView;
  private at = -1;
  private selected: string | null = null;
  private hovered: string | null = null;

  constructor(
    private readonly events: Events,
    private data: TimelineData,
  ) {
    this.view = this.viewed();
    this.frame.svg.append(this.back, this.chosen, this.plot, this.bar, this.cross);
    this.frame.bar.append(this.legend, html("span", { class: "mm-spring" }), this.said);
    this.listen();
    this.draw();
  }

  get element(): HTMLElement {
    return this.frame.element;
  }

  update(data: TimelineData): void {
    this.data = data;
    this.at = -1;
    this.draw();
  }

  select(id: string | null): void {
    this.selected = id;
    this.highlight();
  }

  hover(id: string | null): void {
    this.hovered = id;
    this.highlight();
  }

  svg(): string {
    return this.frame.exported();
  }

  destroy(): void {
    this.frame.destroy();
  }

  private viewed(): TimelineView {
    const { width, height } = this.frame;
    const beside = this.data.holders.length ? BAR.gap + BAR.width + (width < NARROW ? 0 : BAR.labels) : 0;
    const right = Math.max(MARGIN.left + 60, width - MARGIN.right - beside);
    return timelineView(this.data, MARGIN.left, right, MARGIN.top, Math.max(MARGIN.top + 60, height - MARGIN.bottom));
  }

  private draw(): void {
    this.view = this.viewed();
    const { view, data } = this;
    const peak = data.points[view.peak];
    this.frame.describe(
      "Live bytes over the run",
      peak
        ? `${counted(data.points.length, "point")}; the peak is ${quantity(peak.bytes, "B")} after ${plain(peak.label)} of ${plain(peak.module)}.`
        : "There are no points.",
    );
    this.said.textContent = [peak ? "" : "nothing to show: no series of live bytes", plain(data.note)].filter(Boolean).join("; ");
    const classes = new Set(data.points.map((point) => stageClass(point.stage)));
    this.legend.replaceChildren(
      ...STAGES.filter((stage) => classes.has(stageClass(stage))).map((stage) => html("span", { class: "mm-key" }, html("span", { class: `mm-swatch ${stageClass(stage)}` }), stage)),
    );
    this.drawBack();
    this.drawHolders();
    attributes(this.plot, {
      x: view.left,
      y: view.top,
      width: view.right - view.left,
      height: view.bottom - view.top,
      "aria-label": "Live bytes after each operation",
      "aria-valuemin": 0,
      "aria-valuemax": Math.max(0, data.points.length - 1),
      display: peak ? null : "none",
    });
    this.moveTo(this.at < 0 ? -1 : Math.min(this.at, data.points.length - 1));
    this.highlight();
  }

  private drawBack(): void {
    const { view } = this;
    this.back.replaceChildren();
    for (const tick of view.bytesTicks) {
      const y = view.y(tick);
      this.back.append(
        mark("path", { class: "mm-grid", d: `M${view.left},${y}H${view.right}` }),
        mark("text", { class: "mm-muted mm-small", x: view.left - 7, y: y + 4, "text-anchor": "end" }, quantity(tick, "B")),
      );
    }
    if (view.peak < 0) return;
    this.drawSeries();
    for (const tick of view.indexTicks) {
      this.back.append(
        mark("text", { class: "mm-muted mm-small", x: view.x(tick), y: view.bottom + 21, "text-anchor": "middle" }, tick.toLocaleString("en-US")),
      );
    }
    this.back.append(
      mark("text", { x: (view.left + view.right) / 2, y: view.bottom + 39, "text-anchor": "middle" }, "points of the run, in order"),
    );
    this.drawPeak();
  }

  private drawSeries(): void {
    const { view } = this;
    for (const { value, from, to } of view.stages) {
      const steps: string[] = [];
      for (let place = from; place < to; place += 1) {
        const index = view.drawn[place]!;
        const next = view.drawn[place + 1] ?? index;
        steps.push(`${place === from ? "M" : "H"}${at(view.x(index))}${place === from ? "," : "V"}${at(view.y(view.bytes[index]!))}`);
        if (place === to - 1) steps.push(`H${at(view.x(next))}`);
      }
      const curve = steps.join("");
      const [start, end] = [view.x(view.drawn[from]!), view.x(view.drawn[to] ?? view.drawn[to - 1]!)];
      const stage = stageClass(value);
      const till = Math.max(end, start + 0.5);
      this.back.append(
        mark("path", { class: `mm-area ${stage}`, d: `${curve}V${at(view.bottom)}H${at(start)}Z` }),
        mark("path", { class: `mm-curve ${stage}`, d: curve }),
        mark("rect", { class: `mm-band ${stage}`, x: start, y: view.bottom + 1, width: till - start, height: 5 }),
      );
    }
  }

  private drawPeak(): void {
    const { view, data } = this;
    const point = data.points[view.peak]!;
    const [x, y] = [view.x(view.peak), view.y(view.bytes[view.peak]!)];
    const words = fitted(
      `peak ${quantity(point.bytes, "B")} after ${plain(point.label)} of ${plain(point.module)}`,
      view.right - view.left,
      12,
      "middle",
    );
    const width = textWidth(words, 12, 600);
    const from = Math.max(view.left, Math.min(x - width / 2, view.right - width));
    const reach = this.data.holders.length ? view.right + BAR.gap : view.right;
    this.back.append(
      mark("path", { class: "mm-peak", d: `M${at(view.left)},${at(y)}H${at(reach)}` }),
      mark("path", { class: "mm-peak", d: `M${at(x)},${at(y)}V${at(view.bottom)}` }),
      mark("circle", { class: "mm-peak-dot", cx: x, cy: y, r: 4.5 }),
      mark("text", { class: "mm-strong mm-halo", x: from, y: view.top - 12 }, words),
    );
  }

  private drawHolders(): void {
    const { view } = this;
    const left = view.right + BAR.gap;
    const labels = this.frame.width >= NARROW;
    const texts = mark("g", { "aria-hidden": "true", "pointer-events": "none" });
    this.bar.replaceChildren();
    view.holders.forEach((held, index) => {
      const group = mark("g", { class: "mm-mark", role: held.module ? "button" : "img", tabindex: held.module ? 0 : null, "data-holder": index });
      attributes(group, { "aria-label": spoken(this.holderNote(held)) });
      group.append(
        mark("rect", {
          class: `mm-holder ${stageClass(held.stage)}`,
          x: left,
          y: held.top,
          width: BAR.width,
          height: Math.max(0.5, held.bottom - held.top),
          "fill-opacity": held.module ? (index % 2 ? 0.5 : 0.8) : 0.25,
        }),
      );
      if (labels) {
        const x = left + BAR.width + 16;
        const middle = (held.top + held.bottom) / 2;
        const size = quantity(held.bytes, "B");
        const room = BAR.labels - 20 - textWidth(size, SMALL, 600) - 8;
        texts.append(
          mark("path", { class: "mm-grid", d: `M${left + BAR.width + 2},${middle}L${x - 4},${held.label - 4}` }),
          mark("text", { class: "mm-small", x, y: held.label }, fitted(held.module || held.what, room, SMALL, "middle")),
          mark("text", { class: "mm-small mm-strong", x: left + BAR.width + BAR.labels, y: held.label, "text-anchor": "end" }, size),
        );
        if (held.module) {
          texts.append(mark("text", { class: "mm-small mm-muted", x, y: held.label + 12.5 }, fitted(held.what, BAR.labels - 20, SMALL, "middle")));
        }
      }
      this.bar.append(group);
    });
    if (view.holders.length) {
      this.bar.append(texts, mark("text", { class: "mm-small mm-muted", x: left, y: view.bottom + 21 }, "held at the peak"));
    }
  }

  /** Strips below the plot where a module, or one below it, was at work. */
  private highlight(): void {
    const { view } = this;
    this.chosen.replaceChildren();
    for (const [id, style, height] of [
      [this.hovered, "mm-hovering", 4],
      [this.selected, "mm-chosen", 4],
    ] as const) {
      if (id === null) continue;
      const matches = this.data.points.map((point) => within(id, point.module));
      for (const run of runs(matches)) {
        if (!run.value) continue;
        const [start, end] = [view.x(run.from), view.x(Math.min(run.to, matches.length - 1))];
        if (this.chosen.childElementCount > 2000) break;
        const y = style === "mm-chosen" ? view.bottom - height : view.bottom - 2 * height;
        this.chosen.append(mark("rect", { class: style, x: start, y, width: Math.max(1.2, end - start), height }));
      }
    }
    for (const group of this.bar.querySelectorAll<SVGGElement>("[data-holder]")) {
      const held = view.holders[Number(group.dataset["holder"])]!;
      group.classList.toggle("is-selected", this.selected !== null && held.module !== "" && within(this.selected, held.module));
      group.classList.toggle("is-hovered", this.hovered !== null && held.module !== "" && within(this.hovered, held.module));
    }
  }

  private moveTo(index: number): void {
    this.at = index;
    const point = this.data.points[index];
    attributes(this.cross, { display: point ? null : "none" });
    const shown = this.data.points[Math.max(0, index)];
    attributes(this.plot, {
      "aria-valuenow": Math.max(0, index),
      "aria-valuetext": shown ? spoken(this.pointNote(Math.max(0, index))) : null,
    });
    if (!point) return;
    const [x, y] = [this.view.x(index), this.view.y(this.view.bytes[index]!)];
    this.cross.replaceChildren(
      mark("path", { class: "mm-cross", d: `M${at(x)},${this.view.top}V${this.view.bottom}` }),
      mark("circle", { class: "mm-cross-dot", cx: x, cy: y, r: 3.5 }),
    );
  }

  private listen(): void {
    const { plot, bar } = this;
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const index = this.view.nearest(this.view.left + event.clientX - box.left);
      this.show(index, event);
    });
    plot.addEventListener("pointerleave", () => this.leave());
    plot.addEventListener("blur", () => this.leave());
    plot.addEventListener("click", () => this.choose(this.data.points[this.at]?.module ?? null));
    plot.addEventListener("focus", () => {
      if (plot.matches(":focus-visible") && this.view.peak >= 0) this.show(this.at < 0 ? this.view.peak : this.at);
    });
    plot.addEventListener("keydown", (event) => this.pressed(event));
    const heldBy = (event: Event): Held | null => {
      const place = (event.target as Element).closest<SVGElement>("[data-holder]")?.dataset["holder"];
      return place === undefined ? null : (this.view.holders[Number(place)] ?? null);
    };
    bar.addEventListener("pointermove", (event) => {
      const held = heldBy(event);
      if (held) this.frame.note(this.holderNote(held), event.target as Element, event);
      this.pointAt(held?.module || null);
    });
    bar.addEventListener("pointerleave", () => this.leave());
    bar.addEventListener("click", (event) => this.choose(heldBy(event)?.module || null));
    bar.addEventListener("focusin", (event) => {
      const held = heldBy(event);
      if (!held || !(event.target as Element).matches(":focus-visible")) return;
      this.frame.note(this.holderNote(held), event.target as Element);
      this.pointAt(held.module || null);
    });
    bar.addEventListener("focusout", () => this.leave());
    bar.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.choose(null);
      else if (event.key === "Enter" || event.key === " ") this.choose(heldBy(event)?.module || null);
      else return;
      event.preventDefault();
    });
  }

  private pressed(event: KeyboardEvent): void {
    const count = this.data.points.length;
    const now = this.at < 0 ? this.view.peak : this.at;
    const page = Math.max(1, Math.round(count / 50));
    const targets: Record<string, number> = {
      ArrowRight: now + 1,
      ArrowUp: now + 1,
      ArrowLeft: now - 1,
      ArrowDown: now - 1,
      PageUp: now + page,
      PageDown: now - page,
      Home: 0,
      End: count - 1,
      p: this.view.peak,
    };
    const target = targets[event.key];
    if (target !== undefined && count > 0) this.show(Math.max(0, Math.min(target, count - 1)));
    else if (event.key === "Enter" || event.key === " ") this.choose(this.data.points[now]?.module ?? null);
    else if (event.key === "Escape") this.choose(null);
    else return;
    event.preventDefault();
  }

  private show(index: number, pointer?: PointerEvent): void {
    this.moveTo(index);
    const dot = this.cross.lastElementChild ?? this.plot;
    this.frame.note(this.pointNote(index), dot, pointer);
    this.pointAt(this.data.points[index]?.module || null);
  }

  private leave(): void {
    this.frame.tip.hide();
    this.moveTo(-1);
    this.pointAt(null);
  }

  private choose(id: string | null): void {
    if (id === this.selected) return;
    this.select(id);
    this.events.onSelect(id);
  }

  private pointAt(id: string | null): void {
    if (id === this.hovered) return;
    this.hover(id);
    this.events.onHover(id);
  }

  private pointNote(index: number): Note {
    const point = this.data.points[index]!;
    const peak = this.view.bytes[this.view.peak] ?? 0;
    const rows: [string, string][] = [
      ["live", `${quantity(point.bytes, "B")} (${exact(point.bytes)})`],
      ["of the peak", share(point.bytes, peak)],
      ["module", plain(point.module)],
      ["stage", plain(point.stage)],
      ["point", `${(index + 1).toLocaleString("en-US")} of ${this.data.points.length.toLocaleString("en-US")}`],
    ];
    return { title: point.label, rows };
  }

  private holderNote(held: Held): Note {
    const rows: [string, string][] = [
      ["held at the peak", `${quantity(held.bytes, "B")} (${exact(held.bytes)})`],
      ["of the peak", share(held.bytes, this.view.bytes[this.view.peak] ?? 0)],
    ];
    if (held.module) rows.unshift(["what", plain(held.what)]);
    return { title: plain(held.module || held.what), rows };
  }
}

function at(value: number): string {
  return String(Math.round(value * 100) / 100);
}
