/** The icicle, a flame graph from the top: every module as wide as its share of a measure, below its caller. */

import { Frame } from "./frame";
import { drawnCells, icicleLayout, type Cell, type Drawn, type Icicle } from "./icicle-layout";
import { counted, exact, inUnit, quantity, share } from "./numbers";
import { Roving } from "./roving";
import { stageClass } from "./style";
import { arrange, attributes, button, html, mark, put, widen } from "./svg";
import { fitted, plain, textWidth } from "./text";
import { spoken, type Note } from "./tooltip";
import type { Drawing, Events, IcicleData } from "./types";

const ROW = { least: 22, most: 34 };
const SIZE = 12;
const PAD = 6;

/** The icicle in an element of its own. */
export function createIcicle(events: Events, data: IcicleData): Drawing<IcicleData> {
  return new IcicleDrawing(events, data);
}

interface Marks {
  group: SVGGElement;
  cell: SVGRectElement;
  edge: SVGRectElement;
  label: SVGGElement;
  name: SVGTextElement;
  value: SVGTextElement;
}

class IcicleDrawing implements Drawing<IcicleData> {
  private readonly frame = new Frame("mm-icicle", "tree", () => this.draw());
  private readonly own = mark("g", { role: "presentation" });
  private readonly cells = mark("g", { role: "presentation" });
  private readonly labels = mark("g", { "aria-hidden": "true", "pointer-events": "none" });
  private readonly crumbs = html("nav", { class: "mm-bar", "aria-label": "Callers" });
  private readonly said = html("span", { class: "mm-said" });
  private readonly roving = new Roving();
  private readonly marks = new Map<string, Marks>();
  private icicle: Icicle;
  private drawn: Drawn[] = [];
  private focus: string | null = null;
  private selected: string | null = null;
  private hovered: string | null = null;
  private height = 0;

  constructor(
    private readonly events: Events,
    private data: IcicleData,
  ) {
    this.icicle = icicleLayout(data.nodes);
    this.frame.canvas.classList.add("mm-scrolls");
    this.frame.svg.append(this.own, this.cells, this.labels);
    this.frame.bar.append(this.crumbs, html("span", { class: "mm-spring" }), this.said);
    this.listen();
    this.draw();
  }

  get element(): HTMLElement {
    return this.frame.element;
  }

  update(data: IcicleData): void {
    this.data = data;
    this.icicle = icicleLayout(data.nodes);
    if (this.focus !== null && !this.icicle.byId.has(this.focus)) this.focus = null;
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
    return this.frame.exported({ height: this.height });
  }

  destroy(): void {
    this.frame.destroy();
  }

  private zoom(id: string | null): void {
    this.focus = id;
    this.frame.tip.hide();
    this.draw();
  }

  private draw(): void {
    const focus = this.focus === null ? null : (this.icicle.byId.get(this.focus) ?? null);
    const { width } = this.frame;
    const { cells, narrow } = drawnCells(this.icicle, focus, width);
    this.drawn = cells;
    const rows = cells.reduce((most, { cell, own }) => Math.max(most, cell.depth + (own ? 2 : 1)), 1);
    const row = Math.max(ROW.least, Math.min(ROW.most, Math.floor(this.frame.height / rows)));
    this.height = rows * row + 2;
    attributes(this.frame.svg, { height: this.height });
    this.frame.svg.style.height = `${this.height}px`;
    this.frame.describe(
      `Icicle of ${plain(this.data.measure)}`,
      `${counted(this.icicle.cells.length, "module")}, each as wide as its share of ${this.text(this.icicle.total)}. ` +
        "Up goes to the caller, down to the first callee, left and right to its siblings; Enter enlarges, Escape goes back.",
    );
    this.drawOwn(row);
    this.drawCells(row);
    this.drawCrumbs(focus);
    this.said.textContent = [
      this.icicle.total === 0 ? `nothing to show: ${plain(this.data.measure)} is 0 everywhere` : "",
      narrow > 0 && this.icicle.total > 0 ? `${counted(narrow, "module")} too narrow to draw; enlarge a part to see them` : "",
      this.icicle.unreachable ? `${counted(this.icicle.unreachable, "module")} in a loop of callers left out` : "",
    ]
      .filter(Boolean)
      .join("; ");
    this.highlight();
  }

  private drawOwn(row: number): void {
    this.own.replaceChildren();
    for (const [place, { cell, own }] of this.drawn.entries()) {
      if (own === null) continue;
      const y = (cell.depth + 1) * row + 1;
      const box = mark("rect", {
        class: `mm-own ${stageClass(cell.mixed ? "other" : cell.node.stage)}`,
        x: own.x + 1,
        y: y + 0.5,
        width: Math.max(0.1, own.width - 2),
        height: row - 3,
        rx: 2,
        "data-place": place,
      });
      const words = fitted(`own ${this.text(cell.own)}`, own.width - 2 * PAD, SIZE);
      this.own.append(box);
      if (words.length > 3) {
        const at = { class: "mm-muted", x: own.x + PAD, y: y + row / 2 + 3, "pointer-events": "none" };
        this.own.append(mark("text", at, words));
      }
    }
  }

  private drawCells(row: number): void {
    const shown = new Set(this.drawn.map(({ cell }) => cell.node.id));
    for (const [id, { group, label }] of this.marks) {
      if (!shown.has(id)) {
        group.remove();
        label.remove();
        this.marks.delete(id);
      }
    }
    this.drawn.forEach((drawn, place) => this.drawCell(drawn, place, row));
    const marks = this.drawn.map(({ cell }) => this.marks.get(cell.node.id)!);
    arrange(this.cells, marks.map(({ group }) => group));
    arrange(this.labels, marks.map(({ label }) => label));
    this.roving.among(marks.map(({ group }) => group));
    const focused = this.focus === null ? undefined : this.marks.get(this.focus);
    if (focused) this.roving.to(focused.group, false);
  }

  private drawCell({ cell, x, width, above }: Drawn, place: number, row: number): void {
    const { node } = cell;
    const marks = this.marks.get(node.id) ?? this.newMarks(node.id);
    const stage = stageClass(cell.mixed ? "other" : node.stage);
    const name = plain(node.label);
    const value = `${this.text(cell.total)} · ${share(cell.total, this.icicle.total)}`;
    const room = width - 2 * PAD - 3;
    const valueFits = textWidth(name, SIZE) + textWidth(value, SIZE) + 14 < room;
    const shown = fitted(name, room, SIZE, "middle");
    put(marks.group, x, cell.depth * row + 1);
    put(marks.label, x, cell.depth * row + 1);
    attributes(marks.group, {
      class: above ? "mm-mark mm-above" : "mm-mark",
      "data-place": place,
      "aria-level": cell.depth + 1,
      "aria-label": spoken(this.note(cell)),
      "aria-expanded": cell.children.length ? String(!above || node.id === this.focus) : null,
    });
    attributes(marks.cell, { class: `mm-cell ${stage}`, height: row - 2 });
    attributes(marks.edge, { class: `mm-edge ${stage}`, width: Math.min(3, width / 3), height: row - 2 });
    widen(marks.cell, Math.max(0.1, width - 0.5));
    attributes(marks.name, { x: PAD + 2, y: row / 2 + 3 });
    attributes(marks.value, { x: width - PAD, y: row / 2 + 3 });
    marks.name.textContent = Array.from(shown).length > 2 || shown === name ? shown : "";
    marks.value.textContent = valueFits ? value : "";
  }

  private newMarks(id: string): Marks {
    const cell = mark("rect", { rx: 2 });
    const edge = mark("rect", { rx: 1 });
    const name = mark("text");
    const value = mark("text", { class: "mm-muted", "text-anchor": "end" });
    const group = mark("g", { role: "treeitem", "aria-selected": "false" }, cell, edge);
    const marks = { group, cell, edge, label: mark("g", { class: "mm-label" }, name, value), name, value };
    this.marks.set(id, marks);
    return marks;
  }

  private drawCrumbs(focus: Cell | null): void {
    const held = this.crumbs.contains(document.activeElement);
    const callers: Cell[] = [];
    for (let cell = focus; cell; cell = cell.parent) callers.unshift(cell);
    const whole = button(plain(this.data.measure), "Show the whole model", () => this.zoom(null));
    this.crumbs.replaceChildren(whole);
    for (const cell of callers) {
      this.crumbs.append(
        html("span", { class: "mm-crumb-arrow", "aria-hidden": "true" }, "›"),
        button(cell.node.label, `Enlarge ${plain(cell.node.label)}`, () => this.zoom(cell.node.id), {
          "aria-current": cell === focus ? "true" : null,
        }),
      );
    }
    if (held) (this.crumbs.lastElementChild as HTMLElement).focus();
  }

  private highlight(): void {
    for (const [id, { group }] of this.marks) {
      group.classList.toggle("is-selected", id === this.selected);
      group.classList.toggle("is-hovered", id === this.hovered);
      group.setAttribute("aria-selected", String(id === this.selected));
    }
  }

  private listen(): void {
    const { svg, tip } = this.frame;
    svg.addEventListener("pointermove", (event) => {
      const cell = this.at(event);
      if (cell) this.frame.note(this.note(cell), event.target as Element, event);
      else tip.hide();
      this.pointAt(cell?.node.id ?? null);
    });
    svg.addEventListener("pointerleave", () => {
      tip.hide();
      this.pointAt(null);
    });
    svg.addEventListener("click", (event) => {
      const cell = this.at(event);
      if (!cell) return;
      this.choose(cell.node.id);
      this.zoom(cell.parent === null || (cell.node.id === this.focus && !cell.children.length) ? null : cell.node.id);
    });
    svg.addEventListener("focusin", (event) => {
      const cell = this.at(event);
      if (cell && (event.target as Element).matches(":focus-visible")) {
        this.frame.note(this.note(cell), event.target as Element);
        this.pointAt(cell.node.id);
      }
    });
    svg.addEventListener("focusout", () => {
      tip.hide();
      this.pointAt(null);
    });
    this.element.addEventListener("keydown", (event) => this.pressed(event));
  }

  private at(event: Event): Cell | null {
    const place = (event.target as Element).closest<SVGElement>("[data-place]")?.dataset["place"];
    return place === undefined ? null : (this.drawn[Number(place)]?.cell ?? null);
  }

  private pressed(event: KeyboardEvent): void {
    const cell = this.at(event);
    if (event.key === "Escape") {
      this.back(cell);
    } else if (cell && (event.key === "Enter" || event.key === " ")) {
      this.choose(cell.node.id);
      this.zoom(cell.parent === null ? null : cell.node.id);
      this.marks.get(cell.node.id)?.group.focus();
    } else if (cell && this.move(cell, event.key)) {
      // The focus has moved.
    } else return;
    event.preventDefault();
  }

  /** Out of the enlarged part by one caller; from the whole, nothing is selected any more. */
  private back(cell: Cell | null): void {
    if (this.focus === null) {
      this.choose(null);
      return;
    }
    const parent = this.icicle.byId.get(this.focus)?.parent ?? null;
    this.zoom(parent === null || parent.parent === null ? null : parent.node.id);
    const there = cell && this.marks.get(cell.node.id);
    if (there) this.roving.to(there.group);
  }

  private move(cell: Cell, key: string): boolean {
    const shown = (candidate: Cell | null | undefined): boolean => candidate != null && this.marks.has(candidate.node.id);
    const row = this.drawn.filter((other) => other.cell.depth === cell.depth).map((other) => other.cell);
    const targets: Record<string, () => Cell | null | undefined> = {
      ArrowUp: () => cell.parent,
      ArrowDown: () => cell.children.find(shown),
      ArrowLeft: () => row[row.indexOf(cell) - 1],
      ArrowRight: () => row[row.indexOf(cell) + 1],
      Home: () => this.drawn[0]?.cell,
      End: () => this.drawn.at(-1)?.cell,
    };
    const found = targets[key];
    if (found === undefined) return false;
    const target = found();
    if (target && shown(target)) this.roving.to(this.marks.get(target.node.id)!.group);
    return true;
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

  private text(value: number): string {
    return inUnit(value, this.data.unit);
  }

  private note(cell: Cell): Note {
    const { measure, unit } = this.data;
    const precisely = (value: number): string =>
      unit === "seconds" ? this.text(value) : `${quantity(value, unit === "flops" ? "FLOP" : unit === "bytes" ? "B" : "")} (${exact(value)})`;
    const rows: [string, string][] = [
      ["", plain(cell.node.id)],
      [plain(measure), precisely(cell.total)],
      ["of the whole", share(cell.total, this.icicle.total)],
    ];
    if (cell.parent) rows.push(["of its caller", share(cell.total, cell.parent.total)]);
    if (cell.children.length) rows.push(["its own", `${precisely(cell.own)}, ${share(cell.own, cell.total)}`]);
    rows.push(["stage", plain(cell.node.stage)]);
    return { title: plain(cell.node.label), rows };
  }
}
