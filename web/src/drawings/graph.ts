/**
 * The call graph: a card for each family of equal modules, within the card of its caller.
 *
 * Arrows between cards are data, from one call's output to another's input; dashed arrows are calls of cards that
 * lie within another caller. Cards open and close; of large graphs only a part is laid out at once.
 */

import { select } from "d3-selection";
import { zoom, zoomIdentity, zoomTransform, type D3ZoomEvent, type ZoomBehavior } from "d3-zoom";

import { Frame } from "./frame";
import { graphLayout, type Card, type GraphLayout, type Point } from "./graph-layout";
import { between, holds, outermost } from "./graph-links";
import { arrow, cardMarks, cardNote, nameCard } from "./graph-marks";
import { MOST_CARDS, Opened, treeOf, type Item, type Link, type Tree } from "./graph-tree";
import { counted } from "./numbers";
import { Roving } from "./roving";
import { STAGES, stageClass } from "./style";
import { button, html, mark } from "./svg";
import { plain } from "./text";
import type { Note } from "./tooltip";
import type { Drawing, Events, GraphData } from "./types";

const EDGE = 12;
const LARGEST_AT_FIRST = 1.5;
const MOST_ZOOM = 6;
const MOST_CALLS = 60;

/** The call graph in an element of its own. */
export function createGraph(events: Events, data: GraphData): Drawing<GraphData> {
  return new CallGraph(events, data);
}

class CallGraph implements Drawing<GraphData> {
  private readonly frame = new Frame("mm-graph", "tree", () => this.resized());
  private readonly viewport = mark("g", { role: "presentation", "data-viewport": "" });
  private readonly legend = html("div", { class: "mm-bar" });
  private readonly said = html("span", { class: "mm-said", role: "status" });
  private readonly roving = new Roving();
  private readonly zooming: ZoomBehavior<SVGSVGElement, unknown>;
  private tree: Tree;
  private opened: Opened;
  private area = { width: 1, height: 1 };
  private layout: GraphLayout = { width: 1, height: 1, cards: [], flows: [] };
  private groups = new Map<Card, SVGGElement>();
  private arrows: { links: Link[]; marks: SVGElement[] }[] = [];
  private closedForRoom = 0;
  private moved = false;
  private selected: string | null = null;
  private hovered: string | null = null;

  constructor(
    private readonly events: Events,
    private data: GraphData,
  ) {
    this.tree = treeOf(data);
    this.opened = new Opened(this.tree);
    this.frame.svg.append(this.viewport);
    this.frame.bar.append(this.legend, this.said, html("span", { class: "mm-spring" }), this.buttons());
    this.zooming = zoom<SVGSVGElement, unknown>()
      .scaleExtent([0.02, MOST_ZOOM])
      .extent(() => [
        [0, 0],
        [this.frame.width, this.frame.height],
      ])
      .on("zoom", (event: D3ZoomEvent<SVGSVGElement, unknown>) => {
        this.viewport.setAttribute("transform", event.transform.toString());
        if (event.sourceEvent) this.moved = true;
        this.frame.tip.hide();
      });
    select(this.frame.svg).call(this.zooming).on("dblclick.zoom", null);
    this.listen();
    this.rearrange();
  }

  get element(): HTMLElement {
    return this.frame.element;
  }

  update(data: GraphData): void {
    this.data = data;
    this.tree = treeOf(data);
    this.opened = new Opened(this.tree);
    this.closedForRoom = 0;
    this.rearrange();
  }

  select(id: string | null): void {
    this.selected = id;
    const item = id === null ? undefined : this.tree.byId.get(id);
    if (item && !this.groupOf(item) && this.tree.items.includes(item)) {
      this.opened.reveal(item);
      this.draw();
    }
    this.highlight();
  }

  hover(id: string | null): void {
    this.hovered = id;
    this.highlight();
  }

  svg(): string {
    const [width, height] = [this.layout.width + 2 * EDGE, this.layout.height + 2 * EDGE];
    return this.frame.exported({ width, height, transform: `translate(${EDGE} ${EDGE})` });
  }

  destroy(): void {
    select(this.frame.svg).on(".zoom", null);
    this.frame.destroy();
  }

  private buttons(): HTMLElement {
    return html(
      "div",
      { class: "mm-bar", role: "group", "aria-label": "View of the call graph" },
      button("open all", "Open as many cards as can be shown", () => {
        this.opened.reset(MOST_CARDS);
        this.rearrange();
      }),
      button("close all", "Close all cards but the outermost", () => {
        this.opened.close();
        this.rearrange();
      }),
      button("−", "Zoom out", () => this.scale(1 / 1.4)),
      button("+", "Zoom in", () => this.scale(1.4)),
      button("fit", "Show the whole graph", () => this.fit()),
    );
  }

  /** Lays out anew, in the shape that fills the drawing best. */
  private rearrange(): void {
    this.area = { width: this.frame.width, height: this.frame.height };
    this.draw();
    this.fit();
  }

  private resized(): void {
    if (this.moved) return;
    this.rearrange();
  }

  private draw(): void {
    this.layout = graphLayout(this.tree, this.opened, this.area.width, this.area.height);
    this.groups = new Map();
    this.arrows = [];
    const cards = mark("g", { role: "presentation" });
    const flows = mark("g", { "aria-hidden": "true", "pointer-events": "none" });
    const texts = mark("g", { "aria-hidden": "true", "pointer-events": "none" });
    for (const card of this.layout.cards) {
      const group = mark("g", {
        class: `mm-mark${card.open ? " mm-cluster" : ""}`,
        transform: `translate(${card.x.toFixed(2)} ${card.y.toFixed(2)})`,
      });
      nameCard(group, card);
      const { shapes, words } = cardMarks(card);
      group.append(...shapes);
      texts.append(mark("g", { transform: group.getAttribute("transform") }, ...words));
      group.dataset["card"] = String(this.groups.size);
      this.groups.set(card, group);
      cards.append(group);
    }
    for (const { links, points } of this.layout.flows) this.drawArrow(flows, links, points, "mm-flow");
    const visible = new Map([...this.groups.keys()].flatMap((card) => (card.item ? [[card.item, card] as const] : [])));
    for (const link of this.tree.calls.slice(0, MOST_CALLS)) {
      const [from, to] = [outermost(link.from, visible), outermost(link.to, visible)];
      if (from && to && from !== to && !holds(from, to) && !holds(to, from)) this.drawArrow(flows, [link], between(from, to), "mm-call");
    }
    this.viewport.replaceChildren(cards, flows, texts);
    this.roving.among([...this.groups.values()]);
    this.say();
    this.highlight();
  }

  private drawArrow(into: SVGGElement, links: Link[], points: Point[], style: string): void {
    const marks: SVGElement[] = arrow(points, style);
    const words = [...new Set(links.map((link) => plain(link.edge.label)).filter(Boolean))].join(", ");
    const middle = points[Math.floor(points.length / 2)];
    if (words && middle) {
      marks.push(mark("text", { class: "mm-small mm-halo", x: middle.x + 5, y: middle.y + 4 }, words));
    }
    this.arrows.push({ links, marks });
    into.append(...marks);
  }

  private say(): void {
    const shown = this.layout.cards.filter((card) => card.item).length;
    const total = this.tree.items.length;
    const stages = STAGES.filter((stage) => this.tree.items.some(({ node }) => stageClass(node.stage) === stageClass(stage)));
    this.legend.replaceChildren(
      ...stages.map((stage) => html("span", { class: "mm-key" }, html("span", { class: `mm-swatch ${stageClass(stage)}` }), stage)),
      html("span", { class: "mm-key" }, "within: called by · arrow: data · behind each other: repeated"),
    );
    const parts = [total === 0 ? "nothing to show: no module ran" : ""];
    if (shown < total) {
      const hidden = total - shown;
      parts.push(`${counted(shown, "card")} of ${total.toLocaleString("en-US")} shown, ${hidden.toLocaleString("en-US")} within closed ones`);
    }
    if (this.closedForRoom) parts.push(`${counted(this.closedForRoom, "card")} closed to make room`);
    if (this.tree.calls.length > MOST_CALLS) parts.push(`${counted(this.tree.calls.length - MOST_CALLS, "call")} between cards not drawn`);
    if (this.tree.unreachable) parts.push(`${counted(this.tree.unreachable, "module")} in a loop of callers left out`);
    if (this.data.note) parts.push(plain(this.data.note));
    this.said.textContent = parts.filter(Boolean).join("; ");
    this.frame.describe(
      "Call graph",
      `${counted(total, "kind")} of modules, each within its caller. Up and down go from card to card, left closes or goes ` +
        "to the caller, right opens or goes inside, Enter selects, plus and minus zoom, 0 fits.",
    );
  }

  private highlight(): void {
    const touched = new Set([this.hovered, this.selected].filter((id) => id !== null));
    for (const [card, group] of this.groups) {
      const id = card.item?.node.id ?? "";
      const selected = card.item !== null && id === this.selected;
      group.classList.toggle("is-selected", selected);
      group.classList.toggle("is-hovered", card.item !== null && id === this.hovered);
      if (card.item) group.setAttribute("aria-selected", String(selected));
    }
    for (const { links, marks } of this.arrows) {
      const lit = links.some(({ from, to, edge }) => [from.node.id, to.node.id, edge.from, edge.to].some((id) => touched.has(id)));
      for (const element of marks) element.classList.toggle("is-lit", lit);
    }
  }

  // -- the view ----------------------------------------------------------------------------------

  private fit(): void {
    const { width, height } = this.frame;
    const scale = Math.min(LARGEST_AT_FIRST, (width - 2 * EDGE) / this.layout.width, (height - 2 * EDGE) / this.layout.height);
    const x = (width - this.layout.width * scale) / 2;
    const y = (height - this.layout.height * scale) / 2;
    this.moved = false;
    this.zooming.transform(select(this.frame.svg), zoomIdentity.translate(x, y).scale(scale));
  }

  private scale(by: number): void {
    this.moved = true;
    this.zooming.scaleBy(select(this.frame.svg), by);
  }

  private pan(x: number, y: number): void {
    this.moved = true;
    const scale = zoomTransform(this.frame.svg).k;
    this.zooming.translateBy(select(this.frame.svg), x / scale, y / scale);
  }

  /** Moves a card into the view where it is not. */
  private intoView(group: SVGGElement): void {
    const [box, view] = [group.getBoundingClientRect(), this.frame.svg.getBoundingClientRect()];
    const x = box.left < view.left ? view.left - box.left + EDGE : box.left > view.right - 40 ? view.right - box.right - EDGE : 0;
    const y = box.top < view.top ? view.top - box.top + EDGE : box.top > view.bottom - 20 ? view.bottom - box.bottom - EDGE : 0;
    if (x || y) this.pan(x, y);
  }

  // -- opening and closing -----------------------------------------------------------------------

  /** Changes what is open. Who has moved the view finds the card where it was, others see the whole graph again. */
  private change(card: Card, act: () => number, focus: boolean): void {
    const { moved } = this;
    const before = this.groups.get(card)!.getBoundingClientRect();
    this.closedForRoom = act();
    this.draw();
    if (!moved) this.fit();
    const item = card.item ?? card.more?.of ?? null;
    const group = item ? this.groupOf(item) : undefined;
    if (!group) return;
    const after = group.getBoundingClientRect();
    if (moved && card.item) this.pan(before.left - after.left, before.top - after.top);
    this.roving.to(group, focus);
  }

  private toggle(card: Card, all: boolean, focus: boolean): void {
    const { item, more } = card;
    if (more) this.change(card, () => this.opened.more(more.of), focus);
    else if (item?.children.length) this.change(card, () => (all ? this.opened.toggleAll(item) : this.opened.toggle(item)), focus);
  }

  // -- what a visitor does -----------------------------------------------------------------------

  private listen(): void {
    const { svg, tip } = this.frame;
    svg.addEventListener("pointermove", (event) => {
      const card = this.at(event);
      if (card && event.buttons === 0) this.frame.note(this.note(card), this.groups.get(card)!, event);
      else tip.hide();
      this.pointAt(card?.item?.node.id ?? null);
    });
    svg.addEventListener("pointerleave", () => {
      tip.hide();
      this.pointAt(null);
    });
    svg.addEventListener("click", (event) => {
      const card = this.at(event);
      if (!card) this.choose(null);
      else if (card.more || (event.target as Element).closest("[data-toggle]")) this.toggle(card, event.shiftKey, false);
      else {
        this.roving.to(this.groups.get(card)!, false);
        this.choose(card.item!.node.id);
      }
    });
    svg.addEventListener("dblclick", (event) => {
      const card = this.at(event);
      if (card && !(event.target as Element).closest("[data-toggle]")) this.toggle(card, event.shiftKey, false);
    });
    svg.addEventListener("focusin", (event) => {
      const card = this.at(event);
      const group = card && this.groups.get(card);
      if (!group?.matches(":focus-visible")) return;
      this.intoView(group);
      this.frame.note(this.note(card!), group);
      this.pointAt(card!.item?.node.id ?? null);
    });
    svg.addEventListener("focusout", () => {
      tip.hide();
      this.pointAt(null);
    });
    svg.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (this.pressed(event)) event.preventDefault();
    });
  }

  private at(event: Event): Card | null {
    const place = (event.target as Element).closest<SVGElement>("[data-card]")?.dataset["card"];
    return place === undefined ? null : (this.layout.cards[Number(place)] ?? null);
  }

  private pressed(event: KeyboardEvent): boolean {
    const moves: Record<string, [number, number]> = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    const move = event.shiftKey ? moves[event.key] : undefined;
    if (move) this.pan(...move);
    else if (event.key === "+" || event.key === "=") this.scale(1.4);
    else if (event.key === "-") this.scale(1 / 1.4);
    else if (event.key === "0") this.fit();
    else if (event.key === "Escape") this.choose(null);
    else return this.pressedOn(event, this.at(event));
    return true;
  }

  private pressedOn(event: KeyboardEvent, card: Card | null): boolean {
    if (!card) return false;
    const { cards } = this.layout;
    const place = cards.indexOf(card);
    const { item } = card;
    if (event.key === "ArrowDown") this.go(cards[place + 1]);
    else if (event.key === "ArrowUp") this.go(cards[place - 1]);
    else if (event.key === "Home") this.go(cards[0]);
    else if (event.key === "End") this.go(cards.at(-1));
    else if (event.key === "ArrowRight" && card.open) this.go(cards[place + 1]);
    else if (event.key === "ArrowRight") this.toggle(card, false, true);
    else if (event.key === "ArrowLeft" && card.open) this.toggle(card, false, true);
    else if (event.key === "ArrowLeft") this.goTo(item?.parent ?? card.more?.of ?? null);
    else if (event.key === " " || (event.key === "Enter" && card.more)) this.toggle(card, false, true);
    else if (event.key === "*") this.toggle(card, true, true);
    else if (event.key === "Enter") this.choose(item!.node.id);
    else return false;
    return true;
  }

  private go(card: Card | undefined): void {
    const group = card && this.groups.get(card);
    if (group) this.roving.to(group);
  }

  private goTo(item: Item | null): void {
    const group = item && this.groupOf(item);
    if (group) this.roving.to(group);
  }

  private groupOf(item: Item): SVGGElement | undefined {
    for (const [card, group] of this.groups) if (card.item === item) return group;
    return undefined;
  }

  private note(card: Card): Note {
    const note = cardNote(card);
    const calls = this.tree.calls.filter((link) => link.to === card.item && card.item !== null);
    if (!calls.length) return note;
    const callers = calls.slice(0, 4).map(({ from, edge }): [string, string] => ["also called by", `${plain(from.node.id)} ${plain(edge.label)}, ${counted(edge.count, "call")}`]);
    return { ...note, rows: [...note.rows, ...callers] };
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
