/** The module tree as a table: only rows in view are drawn, so that 100,000 of them are as quick as ten. */

import { cellText, COLUMNS, type Column, textOf } from "../core/columns";
import type { Context } from "../core/context";
import { fill, h } from "../core/dom";
import type { Figures } from "../core/figures";
import { csv, download, fileName } from "../core/files";
import { precise } from "../core/format";
import { type Order, type Row, RowList } from "./rows";
import { toolbar } from "./toolbar";

const ROW_HEIGHT = 30;
const SPARE = 12;

export class ModuleTable {
  readonly element: HTMLElement;
  private readonly list: RowList;
  private readonly grid = h("div", { class: "grid", role: "treegrid", tabindex: 0, "aria-label": "Modules" });
  private readonly header = h("div", { class: "grid-head", role: "row", "aria-rowindex": 1 });
  private readonly body = h("div", { class: "grid-body", role: "rowgroup" });
  private readonly count = h("span", { class: "row-count", role: "status" });
  private rows: Row[] = [];
  private active = 0;
  private largest = new Map<string, number>();
  private isPrinting = false;

  constructor(private readonly context: Context) {
    this.list = new RowList(context.tree);
    this.grid.append(h("div", { role: "rowgroup" }, this.header), this.body);
    this.element = h("section", { class: "table", id: "modules", "aria-label": "Module table" }, toolbar(context, this, this.count), this.grid);
    this.grid.addEventListener("scroll", () => this.draw(), { passive: true });
    this.grid.addEventListener("keydown", (event) => this.onKey(event));
    this.body.addEventListener("click", (event) => this.onClick(event));
    this.body.addEventListener("mouseover", (event) => this.onHover(event));
    const { store } = context;
    store.watch(["settings", "sort", "descending", "columns", "flat", "search", "stage"], () => this.update());
    store.watch(["selected"], () => this.follow());
    new ResizeObserver(() => this.draw()).observe(this.grid);
    for (const [name, is] of [["beforeprint", true], ["afterprint", false]] as const) {
      window.addEventListener(name, () => {
        this.isPrinting = is;
        this.draw();
      });
    }
    this.update();
    this.follow();
  }

  /** Columns that are shown, in their order; those for which there is nothing are left out. */
  columns(): Column[] {
    const { columns } = this.context.store.state;
    return COLUMNS.filter((column) => columns.includes(column.name) && this.isKnown(column));
  }

  /** Whether there is anything to show in a column. */
  isKnown(column: Column): boolean {
    const { modules } = this.context.tree;
    const figures = this.context.figures();
    const most = Math.min(modules.length, 200);
    for (let place = 0; place < most; place++) {
      if (column.number ? column.number(figures, place, "all") !== undefined : !["", "–"].includes(column.text!(modules[place]!, figures, place, "all"))) return true;
    }
    return column.name === "bound" && this.context.data.report !== undefined;
  }

  openAll(): void {
    this.list.openAll();
    this.update();
  }

  closeAll(): void {
    this.list.closeAll();
    this.update();
  }

  /** The whole table, every level of it, as CSV. */
  exportCsv(): void {
    const { tree, store, data } = this.context;
    const figures = this.context.figures();
    const { stage } = store.state;
    const columns = this.columns();
    const titles = ["module", "level", ...columns.map((column) => (column.unit && column.unit !== "count" ? `${column.title} (${UNIT_NAMES[column.unit]})` : column.title))];
    const all = new RowList(tree);
    all.openAll();
    const lines = all.rows({ ...this.order(), flat: false, search: "" }).map((row) => [
      tree.modules[row.module]!.id,
      row.level,
      ...columns.map((column) => (column.number ? column.number(figures, row.module, stage) : column.text!(tree.modules[row.module]!, figures, row.module, stage))),
    ]);
    download(fileName(data.title, "modules") + ".csv", "text/csv;charset=utf-8", csv([titles, ...lines]));
  }

  private order(): Order {
    const { sort, descending, flat, search, stage } = this.context.store.state;
    return { column: COLUMNS.find((column) => column.name === sort), descending, flat, search, stage, figures: this.context.figures() };
  }

  private update(): void {
    const key = this.rows[this.active]?.key;
    this.rows = this.list.rows(this.order());
    const still = this.rows.findIndex((row) => row.key === key);
    this.active = Math.max(0, still);
    this.measure();
    this.drawHeader();
    this.grid.setAttribute("aria-rowcount", String(this.rows.length + 1));
    const all = this.context.tree.modules.length;
    const { search } = this.context.store.state;
    this.count.textContent = search ? `${this.rows.length.toLocaleString("en-US")} found` : `${all.toLocaleString("en-US")} ${all === 1 ? "row" : "rows"}`;
    this.draw();
  }

  /** The largest number of each column, which bars are shares of. */
  private measure(): void {
    const figures = this.context.figures();
    const { stage } = this.context.store.state;
    this.largest.clear();
    for (const column of this.columns()) {
      if (!column.bar) continue;
      let most = 0;
      for (let place = 0; place < this.context.tree.modules.length; place++) most = Math.max(most, column.number!(figures, place, stage) ?? 0);
      this.largest.set(column.name, most);
    }
  }

  private drawHeader(): void {
    const { sort, descending } = this.context.store.state;
    const columns = this.columns();
    const widths = [NAME_WIDTH, ...columns.map((column) => WIDTHS[column.name] ?? WIDTH)];
    this.grid.style.setProperty("--columns", widths.map(([least, grows]) => `minmax(${least}px, ${grows}fr)`).join(" "));
    this.grid.style.setProperty("--least", `${widths.reduce((sum, [least]) => sum + least, 0)}px`);
    this.grid.setAttribute("aria-colcount", String(columns.length + 1));
    const cell = (name: string, title: string, tip: string, isNumber: boolean): HTMLElement => {
      const isSorted = name !== "" && sort === name;
      const state = !isSorted ? "none" : descending ? "descending" : "ascending";
      const mark = isSorted ? h("span", { "aria-hidden": "true" }, descending ? " ↓" : " ↑") : null;
      return h(
        "div",
        { role: "columnheader", class: isNumber ? "cell is-number" : "cell", "aria-sort": name ? state : null, title: tip },
        h("button", { type: "button", class: "sorter", onclick: () => this.sort(name, isNumber) }, title, mark),
      );
    };
    fill(this.header, cell("", "Module", "In the order of the model", false), ...columns.map((column) => cell(column.name, column.title, column.tip, Boolean(column.number))));
  }

  /** A number is sorted with the largest first; a third press gives back the order of the model. */
  private sort(name: string, isNumber: boolean): void {
    const { store } = this.context;
    const { sort, descending } = store.state;
    if (!name) store.set({ sort: "", descending: true });
    else if (sort !== name) store.set({ sort: name, descending: isNumber });
    else if (descending === isNumber) store.set({ descending: !isNumber });
    else store.set({ sort: "", descending: true });
  }

  private draw(): void {
    const height = this.rows.length * ROW_HEIGHT;
    this.body.style.height = `${height}px`;
    const top = this.grid.scrollTop;
    const seen = this.isPrinting ? Math.min(this.rows.length, MOST_PRINTED) : Math.ceil(this.grid.clientHeight / ROW_HEIGHT);
    const first = this.isPrinting ? 0 : Math.max(0, Math.floor(top / ROW_HEIGHT) - SPARE);
    const last = Math.min(this.rows.length, first + seen + 2 * SPARE);
    const figures = this.context.figures();
    const columns = this.columns();
    this.body.replaceChildren();
    for (let at = first; at < last; at++) this.body.append(this.drawn(this.rows[at]!, at, columns, figures));
    const active = this.rows[this.active];
    const isDrawn = active && this.active >= first && this.active < last;
    if (isDrawn) this.grid.setAttribute("aria-activedescendant", `row-${active.key}`);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  private drawn(row: Row, at: number, columns: Column[], figures: Figures): HTMLElement {
    const { tree, store } = this.context;
    const module = tree.modules[row.module]!;
    const isInstance = row.instance >= 0;
    const id = isInstance ? tree.instances!.id[row.instance]! : module.id;
    const isFlat = store.state.flat || store.state.search.trim() !== "";
    const name = isInstance || isFlat ? id : shortName(module.id, module.parent === null ? null : tree.modules[module.parent]!.id);
    const classes = ["row", isInstance && "is-instance", at === this.active && "is-active", id === store.state.selected && "is-selected"];
    const label = h(
      "div",
      { role: "gridcell", class: "cell name", style: `padding-inline-start: ${10 + row.level * 16}px` },
      h("span", { class: row.expandable ? "twisty" : "twisty is-leaf", "data-act": "toggle", "aria-hidden": "true" }, row.expandable ? (row.expanded ? "▾" : "▸") : ""),
      h("span", { class: `dot stage-${module.stage}`, title: module.stage, "aria-hidden": "true" }),
      h("span", { class: "name-text", title: id }, name),
      row.members > 1
        ? h("span", { class: "unfold", "data-act": "unfold", title: `${row.unfolded ? "Hide" : "Show"} the ${row.members.toLocaleString("en-US")} single modules (key u)` }, row.unfolded ? "−" : `${row.members.toLocaleString("en-US")}`)
        : null,
    );
    return h(
      "div",
      {
        role: "row",
        id: `row-${row.key}`,
        class: classes.filter(Boolean).join(" "),
        style: `top: ${at * ROW_HEIGHT}px`,
        "data-at": at,
        "aria-level": row.level + 1,
        "aria-setsize": row.setSize,
        "aria-posinset": row.position,
        "aria-rowindex": at + 2,
        "aria-selected": String(id === store.state.selected),
        "aria-expanded": row.expandable ? String(row.expanded) : null,
      },
      label,
      ...columns.map((column) => (isInstance ? this.instanceCell(column, row.instance) : this.cell(column, row.module, figures))),
    );
  }

  private cell(column: Column, place: number, figures: Figures): HTMLElement {
    const { tree, store } = this.context;
    const { stage } = store.state;
    if (!column.number) {
      const text = textOf(column, tree.modules[place]!, figures, place, stage);
      const isBound = column.name === "bound" && text !== "–";
      return h("div", { role: "gridcell", class: "cell", title: text }, isBound ? h("span", { class: `bound bound-${text}` }, text) : text);
    }
    const value = column.number(figures, place, stage);
    const most = this.largest.get(column.name) ?? 0;
    const share = column.bar && value && most ? Math.max(0, Math.min(1, value / most)) : 0;
    return h(
      "div",
      { role: "gridcell", class: value === undefined || value === 0 ? "cell is-number is-nothing" : "cell is-number", title: value === undefined ? "" : precise(value, column.unit!) },
      share > 0.002 ? h("span", { class: "bar", style: `--share: ${share.toFixed(4)}`, "aria-hidden": "true" }) : null,
      cellText(column, value),
    );
  }

  private instanceCell(column: Column, instance: number): HTMLElement {
    const { instances, modules } = this.context.tree;
    const values: Record<string, number | null | undefined> = {
      calls: instances!.calls[instance],
      flops: instances!.flops[instance],
      parameters: instances!.parameters[instance],
      peak: instances!.peak[instance],
    };
    if (column.name === "class") return h("div", { role: "gridcell", class: "cell" }, modules[instances!.family[instance]!]!.class);
    const value = values[column.name] ?? undefined;
    const text = value === undefined ? "" : cellText(column, value);
    const tip = value === undefined ? "" : `${precise(value, column.unit!)}, in the traced run`;
    return h("div", { role: "gridcell", class: column.number ? "cell is-number" : "cell", title: tip }, text);
  }

  // What a visitor does -------------------------------------------------------------------------------

  private onClick(event: MouseEvent): void {
    const target = event.target as Element;
    const at = Number(target.closest<HTMLElement>(".row")?.dataset.at ?? -1);
    const row = this.rows[at];
    if (!row) return;
    this.active = at;
    const act = target.closest<HTMLElement>("[data-act]")?.dataset.act;
    if (act === "toggle" && row.expandable) this.toggle(row);
    else if (act === "unfold") this.unfold(row);
    else this.select(row);
  }

  private onHover(event: MouseEvent): void {
    const at = Number((event.target as Element).closest<HTMLElement>(".row")?.dataset.at ?? -1);
    const row = this.rows[at];
    if (row) this.element.dispatchEvent(new CustomEvent("hovered", { detail: this.context.tree.modules[row.module]!.id }));
  }

  private onKey(event: KeyboardEvent): void {
    if (event.target !== this.grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = this.rows[this.active];
    const page = Math.max(1, Math.floor(this.grid.clientHeight / ROW_HEIGHT) - 2);
    switch (event.key) {
      case "ArrowDown":
        this.go(this.active + 1);
        break;
      case "ArrowUp":
        this.go(this.active - 1);
        break;
      case "PageDown":
        this.go(this.active + page);
        break;
      case "PageUp":
        this.go(this.active - page);
        break;
      case "Home":
        this.go(0);
        break;
      case "End":
        this.go(this.rows.length - 1);
        break;
      case "ArrowRight":
        if (row?.expandable && !row.expanded) this.toggle(row);
        else if (row?.expandable) this.go(this.active + 1);
        break;
      case "ArrowLeft":
        if (row?.expanded) this.toggle(row);
        else if (row) this.go(this.above(this.active));
        break;
      case "Enter":
      case " ":
        if (row) this.select(row);
        break;
      case "u":
        if (row && row.members > 1) this.unfold(row);
        break;
      default:
        return;
    }
    event.preventDefault();
  }

  private above(at: number): number {
    const { level } = this.rows[at]!;
    for (let place = at - 1; place >= 0; place--) if (this.rows[place]!.level < level) return place;
    return at;
  }

  private go(at: number): void {
    this.active = Math.max(0, Math.min(this.rows.length - 1, at));
    const head = this.header.offsetHeight;
    const top = this.active * ROW_HEIGHT;
    const { scrollTop, clientHeight } = this.grid;
    if (top < scrollTop) this.grid.scrollTop = top;
    else if (top + ROW_HEIGHT > scrollTop + clientHeight - head) this.grid.scrollTop = top + ROW_HEIGHT + head - clientHeight;
    this.draw();
  }

  private toggle(row: Row): void {
    if (row.expanded) this.list.expanded.delete(row.key);
    else this.list.expanded.add(row.key);
    this.update();
  }

  unfold(row: { module: number }): void {
    if (this.list.unfolded.has(row.module)) this.list.unfolded.delete(row.module);
    else this.list.unfolded.add(row.module);
    this.update();
  }

  private select(row: Row): void {
    const { tree, store } = this.context;
    const id = row.instance >= 0 ? tree.instances!.id[row.instance]! : tree.modules[row.module]!.id;
    store.set({ selected: id === store.state.selected ? null : id });
  }

  /** Shows the selected module's row, whoever selected it. */
  private follow(): void {
    const { selected } = this.context.store.state;
    const key = selected === null ? null : this.list.reveal(selected);
    if (key === null) {
      this.draw();
      return;
    }
    this.update();
    const at = this.rows.findIndex((row) => row.key === key);
    if (at >= 0) this.go(at);
  }
}

const MOST_PRINTED = 2000;

/** The least width in pixels, and the share of what is left over. */
type Width = readonly [least: number, grows: number];

const WIDTH: Width = [78, 0.7];

const NAME_WIDTH: Width = [210, 2];

const WIDTHS: Record<string, Width> = {
  class: [120, 1.3],
  repeat: [78, 0.4],
  calls: [58, 0.4],
  estimate: [72, 0.7],
  share: [62, 0.4],
  bound: [78, 0.3],
  flops: [66, 0.7],
  bytes: [74, 0.7],
  peak: [74, 0.7],
  parameters: [66, 0.5],
  shape: [138, 2],
};

const UNIT_NAMES: Record<string, string> = { flops: "FLOP", bytes: "bytes", seconds: "s", share: "of 1", rate: "1/s", usd: "USD" };

/** What a name has beyond its caller's: `attn` below `blocks.[0-11]`. */
export function shortName(id: string, parent: string | null): string {
  if (parent === null) return id;
  const parts = id.split(".");
  const above = parent.split(".");
  let same = 0;
  while (same < above.length && same < parts.length - 1 && (parts[same] === above[same])) same += 1;
  return parts.slice(same).join(".");
}
