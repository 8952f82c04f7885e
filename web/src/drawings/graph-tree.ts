/** The call graph as a tree of cards: who lies within whom, what is open, and what is hidden for being too much. */

import type { GraphData, GraphEdge, GraphNode } from "./types";

/** Cards that are open at first, and that are drawn at most. */
export const FIRST_CARDS = 150;
export const MOST_CARDS = 400;

/** Cards that one open card shows before it is asked for more. */
export const CARDS_AT_ONCE = 40;

export interface Item {
  node: GraphNode;
  parent: Item | null;
  children: Item[];
  depth: number;
  /** True where what lies within belongs to several stages. */
  mixed: boolean;
}

/** Data that flows between two siblings, or a call that nesting does not show. */
export interface Link {
  from: Item;
  to: Item;
  edge: GraphEdge;
}

export interface Tree {
  byId: Map<string, Item>;
  roots: Item[];
  /** Items that a root leads to, callers before callees. */
  items: Item[];
  /** Flows by the card that they are drawn in; null is outside of all. */
  flows: Map<Item | null, Link[]>;
  /** Calls into cards that lie within another caller. */
  calls: Link[];
  /** Nodes whose parents lead to each other and to no root. */
  unreachable: number;
}

export function treeOf(data: GraphData): Tree {
  const byId = new Map<string, Item>();
  for (const node of data.nodes) {
    if (!byId.has(node.id)) byId.set(node.id, { node, parent: null, children: [], depth: 0, mixed: false });
  }
  const roots: Item[] = [];
  for (const item of byId.values()) {
    const parent = item.node.parent === null ? undefined : byId.get(item.node.parent);
    if (parent === undefined || parent === item) roots.push(item);
    else {
      item.parent = parent;
      parent.children.push(item);
    }
  }
  const items: Item[] = [];
  const waiting = [...roots].reverse();
  for (let item = waiting.pop(); item !== undefined; item = waiting.pop()) {
    items.push(item);
    for (let index = item.children.length - 1; index >= 0; index -= 1) {
      const child = item.children[index]!;
      child.depth = item.depth + 1;
      waiting.push(child);
    }
  }
  for (const item of [...items].reverse()) {
    const { parent } = item;
    if (parent && (item.mixed || item.node.stage !== parent.node.stage)) parent.mixed = true;
  }
  const reached = new Set(items);
  const tree: Tree = { byId, roots, items, flows: new Map(), calls: [], unreachable: byId.size - items.length };
  for (const edge of data.edges) {
    const [from, to] = [byId.get(edge.from), byId.get(edge.to)];
    if (!from || !to || from === to || !reached.has(from) || !reached.has(to)) continue;
    if (edge.kind === "data") addFlow(tree, from, to, edge);
    else if (to.parent !== from) tree.calls.push({ from, to, edge });
  }
  return tree;
}

/** A flow is drawn between the two cards that lie side by side and hold its ends. */
function addFlow(tree: Tree, from: Item, to: Item, edge: GraphEdge): void {
  let [a, b]: [Item | null, Item | null] = [from, to];
  while (a.depth > b.depth) a = a.parent!;
  while (b.depth > a.depth) b = b.parent!;
  if (a === b) return;
  while (a.parent !== b.parent) {
    a = a.parent!;
    b = b.parent!;
  }
  const inside = a.parent;
  const known = tree.flows.get(inside) ?? [];
  known.push({ from: a, to: b, edge });
  tree.flows.set(inside, known);
}

/** What is open, and how many of its cards an open one shows. */
export class Opened {
  private readonly open = new Set<Item>();
  private readonly shown = new Map<Item | null, number>();

  constructor(private readonly tree: Tree) {
    this.reset(FIRST_CARDS);
  }

  has(item: Item): boolean {
    return this.open.has(item);
  }

  /** The cards within an open one that are shown, and how many are not. */
  within(item: Item | null): { shown: Item[]; more: number } {
    const all = item === null ? this.tree.roots : item.children;
    const limit = this.shown.get(item) ?? CARDS_AT_ONCE;
    return { shown: all.slice(0, limit), more: Math.max(0, all.length - limit) };
  }

  /** Opens level after level as far as so many cards allow. */
  reset(budget: number): void {
    this.open.clear();
    this.shown.clear();
    this.openBelow(this.within(null).shown, budget - this.within(null).shown.length);
  }

  /** Closes all but the outermost cards. */
  close(): void {
    this.open.clear();
    this.shown.clear();
    for (const root of this.tree.roots.slice(0, 1)) if (root.children.length) this.open.add(root);
  }

  /** Opens or closes a card. Where that shows too much, others are closed; gives how many. */
  toggle(item: Item): number {
    if (this.open.delete(item)) return 0;
    if (!item.children.length) return 0;
    this.open.add(item);
    return this.trim(item);
  }

  /** Opens a card and all below it, level after level, or closes them all. */
  toggleAll(item: Item): number {
    const closed = this.closedBelow(item);
    if (closed) {
      const others = this.count();
      if (!this.open.has(item)) this.open.add(item);
      this.openBelow(this.within(item).shown, MOST_CARDS - others - this.within(item).shown.length);
      return this.trim(item);
    }
    const waiting = [item];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      this.open.delete(next);
      for (const child of next.children) waiting.push(child);
    }
    return 0;
  }

  /** Opens what lies around an item, so that it can be seen. */
  reveal(item: Item): void {
    for (let outer: Item | null = item; outer; outer = outer.parent) {
      const around: Item | null = outer.parent;
      if (around) this.open.add(around);
      const place = (around === null ? this.tree.roots : around.children).indexOf(outer);
      const limit = this.shown.get(around) ?? CARDS_AT_ONCE;
      if (place >= limit && place < MOST_CARDS) this.shown.set(around, place + 1);
    }
    this.trim(item);
  }

  more(item: Item | null): number {
    const limit = Math.min(MOST_CARDS, (this.shown.get(item) ?? CARDS_AT_ONCE) + CARDS_AT_ONCE);
    this.shown.set(item, limit);
    return item === null ? 0 : this.trim(item);
  }

  /** Cards that are drawn. */
  count(): number {
    let count = 0;
    const waiting = [...this.within(null).shown];
    for (let item = waiting.pop(); item !== undefined; item = waiting.pop()) {
      count += 1;
      if (this.open.has(item)) waiting.push(...this.within(item).shown);
    }
    return count;
  }

  private closedBelow(item: Item): boolean {
    const waiting = [item];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      if (!next.children.length) continue;
      if (!this.open.has(next)) return true;
      waiting.push(...this.within(next).shown);
    }
    return false;
  }

  private openBelow(items: readonly Item[], budget: number): void {
    let level = [...items];
    let left = budget;
    while (level.length) {
      const next: Item[] = [];
      for (const item of level) {
        const inside = this.within(item).shown;
        if (!inside.length || inside.length > left) continue;
        this.open.add(item);
        left -= inside.length;
        next.push(...inside);
      }
      level = next;
    }
  }

  /** Closes the largest open cards that do not hold an item until what is drawn is not too much. */
  private trim(keep: Item): number {
    let closed = 0;
    while (this.count() > MOST_CARDS) {
      const around = new Set<Item>();
      for (let outer: Item | null = keep; outer; outer = outer.parent) around.add(outer);
      const candidates = [...this.open].filter((item) => !around.has(item) && this.visible(item));
      const largest = candidates.sort((a, b) => this.within(b).shown.length - this.within(a).shown.length)[0];
      if (largest === undefined) break;
      this.open.delete(largest);
      closed += 1;
    }
    return closed;
  }

  private visible(item: Item): boolean {
    for (let outer = item.parent; outer; outer = outer.parent) if (!this.open.has(outer)) return false;
    return true;
  }
}
