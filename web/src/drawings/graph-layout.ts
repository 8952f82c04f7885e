/** Where the cards of a call graph go: within their callers, side by side in the direction in which data flows. */

import * as dagre from "@dagrejs/dagre";

import type { Item, Link, Opened, Tree } from "./graph-tree";
import { plain, textWidth } from "./text";

export const CARD = { height: 26, header: 27, pad: 9, size: 12, most: 320, toggle: 20, stack: 4 };

const APART = { beside: 10, along: 20 };

export interface Point {
  x: number;
  y: number;
}

/** A card, or in place of those that are not shown one that says how many they are. */
export interface Card extends Point {
  item: Item | null;
  /** Whose cards are not shown, and how many; for a card in place of others. */
  more: { of: Item | null; count: number } | null;
  width: number;
  height: number;
  open: boolean;
}

export interface Flow {
  links: Link[];
  points: Point[];
}

export interface GraphLayout {
  width: number;
  height: number;
  /** Outer cards before inner ones. */
  cards: Card[];
  flows: Flow[];
}

interface Block {
  card: Card;
  inner: Block[];
  flows: Flow[];
}

/** Shapes that open cards are tried in: how many times as wide as high. */
const SHAPES = [0.4, 0.75, 1.4, 2.6, 5];

/** With more cards than this, all open cards get one shape: to try every one takes too long. */
const MOST_TRIED = 150;

/** The layout that fills an area of a shape best. */
export function graphLayout(tree: Tree, opened: Opened, width: number, height: number): GraphLayout {
  const shape = width / height;
  const shapes = opened.count() <= MOST_TRIED ? SHAPES : [shape];
  const whole = new Arranger(tree, opened, shapes).best(null, shape);
  const layout: GraphLayout = { width: whole.width, height: whole.height, cards: [], flows: [] };
  const waiting: { block: Block; x: number; y: number }[] = [];
  const enter = (blocks: Block[], flows: Flow[], x: number, y: number): void => {
    for (const { links, points } of flows) {
      layout.flows.push({ links, points: points.map((point) => ({ x: point.x + x, y: point.y + y })) });
    }
    for (const block of [...blocks].reverse()) waiting.push({ block, x, y });
  };
  enter(whole.blocks, whole.flows, 0, 0);
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const card = { ...next.block.card, x: next.block.card.x + next.x, y: next.block.card.y + next.y };
    layout.cards.push(card);
    enter(next.block.inner, next.block.flows, card.x + CARD.pad, card.y + CARD.header);
  }
  return layout;
}

interface Arranged {
  width: number;
  height: number;
  blocks: Block[];
  flows: Flow[];
}

/** The side that a box needs in a shape: the smaller, the better it fills it. */
function side({ width, height }: { width: number; height: number }, shape: number): number {
  return Math.max(width / Math.sqrt(shape), height * Math.sqrt(shape));
}

/** Arranges cards within cards, each for every shape that those around it might want. */
class Arranger {
  private readonly known = new Map<Item | null, Arranged[]>();

  constructor(
    private readonly tree: Tree,
    private readonly opened: Opened,
    private readonly shapes: readonly number[],
  ) {}

  /** What lies within a card, in the arrangement that fills a shape best. */
  best(item: Item | null, shape: number): Arranged {
    let choices = this.known.get(item);
    if (choices === undefined) {
      choices = this.arrangements(item);
      this.known.set(item, choices);
    }
    return choices.reduce((best, choice) => (side(choice, shape) < side(best, shape) ? choice : best));
  }

  /** The cards within one in every shape of their own, along both directions of flow. */
  private arrangements(item: Item | null): Arranged[] {
    const { shown, more } = this.opened.within(item);
    const inside = new Map(shown.map((child, index) => [child, index]));
    const links = (this.tree.flows.get(item) ?? []).filter((link) => inside.has(link.from) && inside.has(link.to));
    const choices: Arranged[] = [];
    const tried = new Set<string>();
    for (const shape of this.shapes) {
      const blocks = shown.map((child) => this.block(child, shape));
      if (more) {
        const card = { item: null, more: { of: item, count: more }, x: 0, y: 0, width: 130, height: CARD.height, open: false };
        blocks.push({ card, inner: [], flows: [] });
      }
      if (blocks.length < 2 || !links.length) {
        choices.push(shelved(blocks, shape));
        continue;
      }
      // Most cards are the same in several shapes.
      const sizes = blocks.map(({ card }) => `${card.width}×${card.height}`).join();
      if (tried.has(sizes)) continue;
      tried.add(sizes);
      choices.push(flowing(blocks, links, inside, "TB"), flowing(blocks, links, inside, "LR"));
    }
    return choices;
  }

  private block(item: Item, shape: number): Block {
    const stack = item.node.repeat ? CARD.stack : 0;
    const title = Math.min(titleWidth(item), CARD.most);
    if (!this.opened.has(item)) {
      const card = { item, more: null, x: 0, y: 0, width: title + stack, height: CARD.height + stack, open: false };
      return { card, inner: [], flows: [] };
    }
    const within = this.best(item, shape);
    const width = Math.max(title, within.width + 2 * CARD.pad) + stack;
    const height = CARD.header + within.height + CARD.pad + stack;
    return { card: { item, more: null, x: 0, y: 0, width, height, open: true }, inner: within.blocks, flows: within.flows };
  }
}

/** Name, class, repeats and, where there is something within, a button: as wide as they are. */
export function titleWidth(item: Item): number {
  const { label, className, repeat } = item.node;
  const name = textWidth(plain(label), CARD.size, 600);
  const kind = className && className !== label ? textWidth(plain(className), CARD.size - 1) + 7 : 0;
  return Math.ceil((item.children.length ? CARD.toggle : 0) + name + kind + badgeWidth(repeat) + 18);
}

export function badgeWidth(repeat: string): number {
  return repeat ? textWidth(badge(repeat), CARD.size - 1, 600) + 20 : 0;
}

/** `for 12` is written ×12; `parfor 64` stays. */
export function badge(repeat: string): string {
  return plain(repeat).replace(/^for /, "×");
}

/** Cards among which no data flows: in rows, in their order. */
function shelved(blocks: Block[], shape: number): Arranged {
  const area = blocks.reduce((sum, { card }) => sum + (card.width + APART.beside) * (card.height + APART.beside), 0);
  const widest = blocks.reduce((most, { card }) => Math.max(most, card.width), 0);
  const limit = Math.max(widest, Math.sqrt(area * shape));
  let [x, y, row, width] = [0, 0, 0, 1];
  const placed = blocks.map((block) => {
    if (x > 0 && x + block.card.width > limit) {
      x = 0;
      y += row + APART.beside;
      row = 0;
    }
    const card = { ...block.card, x, y };
    x += card.width + APART.beside;
    row = Math.max(row, card.height);
    width = Math.max(width, card.x + card.width);
    return { ...block, card };
  });
  return { width, height: Math.max(1, y + row), blocks: placed, flows: [] };
}

/** Cards in layers along the flow of data (dagre: Sugiyama's method). */
function flowing(blocks: Block[], links: Link[], inside: Map<Item, number>, direction: "TB" | "LR"): Arranged {
  const graph = new dagre.graphlib.Graph({ multigraph: false });
  graph.setGraph({ rankdir: direction, nodesep: APART.beside, edgesep: 8, ranksep: APART.along, marginx: 0, marginy: 0 });
  blocks.forEach(({ card }, index) => graph.setNode(String(index), { width: card.width, height: card.height }));
  const together = new Map<string, { from: number; to: number; links: Link[] }>();
  for (const link of links) {
    const [from, to] = [inside.get(link.from)!, inside.get(link.to)!];
    const key = `${from} ${to}`;
    const known = together.get(key);
    if (known) known.links.push(link);
    else together.set(key, { from, to, links: [link] });
  }
  for (const { from, to } of together.values()) graph.setEdge(String(from), String(to), {});
  dagre.layout(graph);
  const placed = blocks.map((block, index) => {
    const { x, y } = graph.node(String(index)) as Point;
    return { ...block, card: { ...block.card, x: x - block.card.width / 2, y: y - block.card.height / 2 } };
  });
  const flows = [...together.values()].map((edge) => ({
    links: edge.links,
    points: (graph.edge(String(edge.from), String(edge.to)) as { points: Point[] }).points,
  }));
  const { width = 1, height = 1 } = graph.graph() as { width?: number; height?: number };
  return { width, height, blocks: placed, flows };
}
