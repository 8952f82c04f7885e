/**
 * The roofline: FLOPs a byte against FLOPs a second of every module in each of its stages, below what the device
 * can do. (Williams, Waterman and Patterson, Roofline, 2009.)
 */

import { Frame } from "./frame";
import { overlap, placed, type Box } from "./labels";
import { counted, quantity } from "./numbers";
import { heaviest, noteOf, power, shapeOf, SHAPES, stageOf } from "./roofline-marks";
import { rooflineView, type PlacedPoint, type RooflineView } from "./roofline-view";
import { Roving } from "./roving";
import { STAGES, stageClass } from "./style";
import { arrange, attributes, button, html, mark, put } from "./svg";
import { fitted, textWidth } from "./text";
import { spoken } from "./tooltip";
import type { Drawing, Events, RooflineData } from "./types";

const MARGIN = { left: 66, right: 18, top: 22, bottom: 46 };

const LABEL_SIZE = 11;

/** The roofline in an element of its own. */
export function createRoofline(events: Events, data: RooflineData): Drawing<RooflineData> {
  return new Roofline(events, data);
}

class Roofline implements Drawing<RooflineData> {
  private readonly frame = new Frame("mm-roofline", "group", () => this.draw());
  private readonly axes = mark("g");
  private readonly roofs = mark("g");
  private readonly marks = mark("g");
  private readonly labels = mark("g", { "aria-hidden": "true", "pointer-events": "none" });
  private readonly legend = html("div", { class: "mm-bar", role: "group", "aria-label": "Stages" });
  private readonly said = html("span", { class: "mm-said" });
  private readonly roving = new Roving();
  private readonly elements = new Map<string, SVGGElement>();
  private readonly hidden = new Set<string>();
  private view: RooflineView;
  private selected: string | null = null;
  private hovered: string | null = null;

  constructor(
    private readonly events: Events,
    private data: RooflineData,
  ) {
    this.view = this.viewed();
    this.frame.svg.append(this.axes, this.roofs, this.marks, this.labels);
    this.frame.bar.append(this.legend, html("span", { class: "mm-spring" }), this.said);
    this.listen();
    this.draw();
  }

  get element(): HTMLElement {
    return this.frame.element;
  }

  update(data: RooflineData): void {
    this.data = data;
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

  private viewed(): RooflineView {
    const { width, height } = this.frame;
    return rooflineView(this.data, {
      left: MARGIN.left,
      right: Math.max(width - MARGIN.right, MARGIN.left + 40),
      top: MARGIN.top,
      bottom: Math.max(height - MARGIN.bottom, MARGIN.top + 40),
    });
  }

  private draw(): void {
    this.view = this.viewed();
    const { points, unplaced } = this.view;
    this.frame.describe(
      "Roofline",
      `${counted(points.length, "module")} by FLOPs a byte and FLOPs a second; the area of a mark is its time. ` +
        "Arrow keys go from the longest to the shortest, Enter selects.",
    );
    this.said.textContent =
      (points.length ? "area: time" : "nothing to show: no module has FLOPs, bytes and time") +
      (unplaced ? `; ${counted(unplaced, "module")} without FLOPs, bytes or time left out` : "");
    this.drawLegend();
    this.drawAxes();
    const taken = this.drawRoofs();
    this.drawPoints();
    this.drawLabels(taken);
    this.highlight();
  }

  private drawLegend(): void {
    const stages = STAGES.filter((stage) => this.view.points.some(({ point }) => stageClass(point.stage) === stageClass(stage)));
    const focus = this.legend.contains(document.activeElement) ? (document.activeElement as HTMLElement).dataset["stage"] : null;
    this.legend.replaceChildren(
      ...stages.map((stage) => {
        const element = button(stage, `Show or hide ${stage}`, () => this.toggle(stage), {
          "aria-pressed": String(!this.hidden.has(stage)),
          "data-stage": stage,
        });
        element.prepend(html("span", { class: `mm-swatch ${stageClass(stage)}` }));
        return element;
      }),
    );
    const kinds = new Set(this.view.points.map(({ point }) => shapeOf(point.kind)));
    if (kinds.size > 1) {
      for (const kind of Object.keys(SHAPES).filter((name) => kinds.has(name))) {
        const shape = mark("path", { d: SHAPES[kind]!.path, transform: "translate(7 7) scale(4.5)", fill: "currentColor" });
        const icon = mark("svg", { width: 14, height: 14, "aria-hidden": "true" }, shape);
        this.legend.append(html("span", { class: "mm-key" }, icon, SHAPES[kind]!.name));
      }
    }
    if (focus) this.legend.querySelector<HTMLElement>(`[data-stage="${focus}"]`)?.focus();
  }

  private toggle(stage: string): void {
    if (!this.hidden.delete(stage)) this.hidden.add(stage);
    this.draw();
  }

  private drawAxes(): void {
    const { plot, x, y } = this.view;
    this.axes.replaceChildren();
    for (const tick of x.ticks) {
      const at = x.at(tick);
      this.axes.append(
        mark("path", { class: "mm-grid", d: `M${at},${plot.top}V${plot.bottom}` }),
        mark("text", { class: "mm-muted mm-small", x: at, y: plot.bottom + 16, "text-anchor": "middle" }, power(tick)),
      );
    }
    for (const tick of y.ticks) {
      const at = y.at(tick);
      this.axes.append(
        mark("path", { class: "mm-grid", d: `M${plot.left},${at}H${plot.right}` }),
        mark("text", { class: "mm-muted mm-small", x: plot.left - 7, y: at + 4, "text-anchor": "end" }, power(tick)),
      );
    }
    const middle = (plot.top + plot.bottom) / 2;
    this.axes.append(
      mark("path", { class: "mm-rule", d: `M${plot.left},${plot.top}V${plot.bottom}H${plot.right}` }),
      mark("text", { x: (plot.left + plot.right) / 2, y: plot.bottom + 38, "text-anchor": "middle" }, "FLOPs a byte"),
      mark("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(14 ${middle}) rotate(-90)` }, "FLOPs a second"),
    );
  }

  /** Draws the roofs; gives the places that labels must leave free. */
  private drawRoofs(): Box[] {
    const { plot, x, y, roofs } = this.view;
    const bandwidth = roofs[0] && roofs[0].ridge > 0 ? roofs[0].rate / roofs[0].ridge : 0;
    const taken: Box[] = [];
    this.roofs.replaceChildren();
    const top = roofs[0];
    if (top && bandwidth > 0) {
      const start = Math.max(x.low, y.low / bandwidth);
      const [x1, y1, x2, y2] = [x.at(start), y.at(start * bandwidth), x.at(top.ridge), y.at(top.rate)];
      this.roofs.append(mark("path", { class: "mm-roof mm-roof-first", d: `M${x1},${y1}L${x2},${y2}` }));
      const angle = (Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI;
      const [atX, atY] = [x1 + (x2 - x1) * 0.3, y1 + (y2 - y1) * 0.3];
      const text = mark(
        "text",
        { class: "mm-small mm-halo", "text-anchor": "middle", transform: `translate(${atX} ${atY}) rotate(${angle}) translate(0 -7)` },
        `memory ${quantity(bandwidth, "B/s")}`,
      );
      this.roofs.append(text);
      for (let step = 0; step <= 24; step += 1) {
        const [px, py] = [x1 + ((x2 - x1) * step) / 24, y1 + ((y2 - y1) * step) / 24];
        taken.push({ x: px - 5, y: py - (step > 3 && step < 12 ? 20 : 4), width: 10, height: step > 3 && step < 12 ? 24 : 8 });
      }
    }
    let lowest = -Infinity;
    roofs.forEach((roof, index) => {
      const height = y.at(roof.rate);
      const from = roof.ridge > 0 ? x.at(roof.ridge) : plot.left;
      this.roofs.append(
        mark("path", { class: index ? "mm-roof" : "mm-roof mm-roof-first", d: `M${from},${height}H${plot.right}` }),
      );
      const words = fitted(`${roof.label} ${quantity(roof.rate, "FLOP/s")}`, plot.right - plot.left - 20, LABEL_SIZE);
      const baseline = Math.max(lowest + 13, height - 5);
      lowest = baseline;
      const width = textWidth(words, LABEL_SIZE);
      const box = { x: plot.right - 4 - width, y: baseline - 11, width, height: 15 };
      taken.push(box, { x: from, y: height - 2, width: plot.right - from, height: 4 });
      this.roofs.append(mark("text", { class: "mm-small mm-halo", x: plot.right - 4, y: baseline, "text-anchor": "end" }, words));
      if (roof.ridge > 0) this.drawRidge(roof.ridge, from, height, index === 0, taken, box);
    });
    return taken;
  }

  private drawRidge(ridge: number, at: number, height: number, first: boolean, taken: Box[], label: Box): void {
    const { plot } = this.view;
    if (first) this.roofs.append(mark("path", { class: "mm-drop", d: `M${at},${height}V${plot.bottom}` }));
    this.roofs.append(mark("circle", { class: "mm-ridge", cx: at, cy: height, r: 3.5 }));
    const words = quantity(ridge, "FLOP/B");
    const width = textWidth(words, LABEL_SIZE);
    const box = { x: at - width - 4, y: height - 19, width, height: 14 };
    if (box.x > plot.left && !taken.some((other) => other !== label && overlap(box, other)) && !overlap(box, label)) {
      taken.push(box);
      this.roofs.append(mark("text", { class: "mm-small mm-muted mm-halo", x: at - 6, y: height - 8, "text-anchor": "end" }, words));
    }
  }

  private drawPoints(): void {
    const shown = new Map(this.view.points.map((point) => [point.key, point]));
    for (const [key, element] of this.elements) {
      if (!shown.has(key)) {
        element.remove();
        this.elements.delete(key);
      }
    }
    // The longest first, so that small marks lie on large ones.
    for (const [place, [key, placedPoint]] of [...shown].entries()) {
      let element = this.elements.get(key);
      if (element === undefined) {
        element = mark("g", { class: "mm-mark", role: "button", "aria-pressed": "false" });
        element.append(mark("path", { class: "mm-shape" }), mark("circle", { r: 9, fill: "transparent", "data-passing": "" }));
        this.elements.set(key, element);
      }
      const { point, x, y, radius } = placedPoint;
      attributes(element, {
        "data-place": place,
        "aria-label": spoken(noteOf(placedPoint)),
        display: this.hidden.has(stageOf(point.stage)) ? "none" : null,
      });
      attributes(element.firstElementChild!, {
        class: `mm-shape ${stageClass(point.stage)}`,
        d: SHAPES[shapeOf(point.kind)]!.path,
      });
      put(element, x, y);
      put(element.firstElementChild as SVGElement, 0, 0, radius);
    }
    arrange(this.marks, [...shown.keys()].map((key) => this.elements.get(key)!));
    this.roving.among(this.reachable());
  }

  private reachable(): SVGGElement[] {
    return this.view.points
      .filter(({ point }) => !this.hidden.has(stageOf(point.stage)))
      .map(({ key }) => this.elements.get(key)!);
  }

  private drawLabels(taken: Box[]): void {
    const { plot, points } = this.view;
    const visible = points.filter(({ point }) => !this.hidden.has(stageOf(point.stage)));
    const discs = visible.map(({ x, y, radius }) => ({ x: x - radius, y: y - radius, width: 2 * radius, height: 2 * radius }));
    const named = heaviest(visible).map((point) => ({ ...point, text: fitted(point.point.label, 190, LABEL_SIZE, "middle") }));
    const wanted = named.map(({ x, y, radius, text }) => ({ x, y, radius, width: textWidth(text, LABEL_SIZE) + 2, height: 14 }));
    const bounds = { x: plot.left + 2, y: plot.top - 8, width: plot.right - plot.left - 4, height: plot.bottom - plot.top + 4 };
    this.labels.replaceChildren();
    placed(wanted, [...taken, ...discs], bounds).forEach((box, index) => {
      if (box === null) return;
      const { x, y, radius, text } = named[index]!;
      const [towardsX, towardsY] = [clamp(x, box.x, box.x + box.width), clamp(y, box.y, box.y + box.height)];
      const away = Math.hypot(towardsX - x, towardsY - y);
      if (away > radius + 10) {
        const share = radius / away;
        this.labels.append(
          mark("path", { class: "mm-leader", d: `M${x + (towardsX - x) * share},${y + (towardsY - y) * share}L${towardsX},${towardsY}` }),
        );
      }
      this.labels.append(mark("text", { class: "mm-small mm-halo", x: box.x + 1, y: box.y + 11 }, text));
    });
  }

  private highlight(): void {
    for (const { key, point } of this.view.points) {
      const element = this.elements.get(key)!;
      const selected = point.id === this.selected;
      element.classList.toggle("is-selected", selected);
      element.classList.toggle("is-hovered", point.id === this.hovered);
      element.setAttribute("aria-pressed", String(selected));
    }
  }

  private listen(): void {
    const { svg } = this.frame;
    const found = (event: Event): PlacedPoint | null => {
      const place = (event.target as Element).closest<SVGElement>("[data-place]")?.dataset["place"];
      return place === undefined ? null : (this.view.points[Number(place)] ?? null);
    };
    svg.addEventListener("pointermove", (event) => {
      const point = found(event);
      if (point) this.frame.note(noteOf(point), this.elements.get(point.key)!, event);
      else this.frame.tip.hide();
      this.pointAt(point?.point.id ?? null);
    });
    svg.addEventListener("pointerleave", () => {
      this.frame.tip.hide();
      this.pointAt(null);
    });
    svg.addEventListener("click", (event) => {
      const point = found(event);
      if (point) this.roving.to(this.elements.get(point.key)!, false);
      this.choose(point?.point.id ?? null);
    });
    svg.addEventListener("focusin", (event) => {
      const point = found(event);
      if (point && this.elements.get(point.key)!.matches(":focus-visible")) {
        this.frame.note(noteOf(point), this.elements.get(point.key)!);
        this.pointAt(point.point.id);
      }
    });
    svg.addEventListener("focusout", () => {
      this.frame.tip.hide();
      this.pointAt(null);
    });
    svg.addEventListener("keydown", (event) => this.pressed(event, found(event)));
  }

  private pressed(event: KeyboardEvent, point: PlacedPoint | null): void {
    const marks = this.reachable();
    const place = point ? marks.indexOf(this.elements.get(point.key)!) : -1;
    const steps: Record<string, number> = {
      ArrowRight: place + 1,
      ArrowDown: place + 1,
      ArrowLeft: place - 1,
      ArrowUp: place - 1,
      Home: 0,
      End: marks.length - 1,
    };
    const step = steps[event.key];
    if (step !== undefined) {
      const next = marks[clamp(step, 0, marks.length - 1)];
      if (next) this.roving.to(next);
    } else if (event.key === "Escape") {
      this.frame.tip.hide();
      this.choose(null);
    } else if (point && (event.key === "Enter" || event.key === " ")) {
      this.choose(point.point.id === this.selected ? null : point.point.id);
    } else return;
    event.preventDefault();
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
}

function clamp(value: number, low: number, high: number): number {
  return Math.max(low, Math.min(value, high));
}
