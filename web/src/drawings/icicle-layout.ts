/** Widths and rows of an icicle: every module as wide as its share, its own part beside those that it calls. */

import { amount } from "./numbers";
import type { IcicleNode } from "./types";

export interface Cell {
  node: IcicleNode;
  depth: number;
  /** Place within the whole, from 0 to 1. */
  from: number;
  to: number;
  /** Where the own part begins that no callee covers; it ends with the cell. */
  ownFrom: number;
  parent: Cell | null;
  children: Cell[];
  total: number;
  own: number;
  /** True where what lies below belongs to several stages. */
  mixed: boolean;
}

export interface Icicle {
  /** Callers before callees. */
  cells: Cell[];
  byId: Map<string, Cell>;
  roots: Cell[];
  total: number;
  depth: number;
  /** Nodes that no root leads to, since their parents lead to each other. */
  unreachable: number;
}

/**
 * A node's width is its total, or what its own part and its callees add up to where that is more: peaks do not add
 * up. Nodes whose parent is not among the nodes are roots, side by side. Values that are no numbers are 0.
 */
export function icicleLayout(nodes: readonly IcicleNode[]): Icicle {
  const byId = new Map<string, Cell>();
  for (const node of nodes) {
    if (byId.has(node.id)) continue;
    const [own, total] = [amount(node.own), amount(node.total)];
    byId.set(node.id, { node, depth: 0, from: 0, to: 0, ownFrom: 0, parent: null, children: [], total, own, mixed: false });
  }
  const roots: Cell[] = [];
  for (const cell of byId.values()) {
    const parent = cell.node.parent === null ? undefined : byId.get(cell.node.parent);
    if (parent === undefined || parent === cell) roots.push(cell);
    else {
      cell.parent = parent;
      parent.children.push(cell);
    }
  }
  const total = sum(roots);
  place(roots, 0, 1, total);
  const cells: Cell[] = [];
  const waiting = [...roots].reverse();
  let depth = 0;
  for (let cell = waiting.pop(); cell !== undefined; cell = waiting.pop()) {
    cells.push(cell);
    depth = Math.max(depth, cell.depth);
    for (const child of cell.children) child.depth = cell.depth + 1;
    const below = sum(cell.children);
    const whole = Math.max(cell.total, cell.own + below);
    cell.ownFrom = place(cell.children, cell.from, cell.to, whole);
    for (let index = cell.children.length - 1; index >= 0; index -= 1) waiting.push(cell.children[index]!);
  }
  for (const cell of [...cells].reverse()) {
    const { parent } = cell;
    if (parent && (cell.mixed || cell.node.stage !== parent.node.stage)) parent.mixed = true;
  }
  return { cells, byId, roots, total, depth, unreachable: byId.size - cells.length };
}

/** Lays cells side by side; gives where the last one ends. */
function place(cells: readonly Cell[], from: number, to: number, whole: number): number {
  let at = from;
  for (const cell of cells) {
    cell.from = at;
    at = whole > 0 ? Math.min(to, at + ((to - from) * cell.total) / whole) : at;
    cell.to = at;
  }
  return at;
}

function sum(cells: readonly Cell[]): number {
  return cells.reduce((total, cell) => total + cell.total, 0);
}

/** A part of an icicle as it is drawn: the chosen cell as wide as the drawing, with all above and below it. */
export interface Drawn {
  cell: Cell;
  x: number;
  width: number;
  /** Above the chosen cell. */
  above: boolean;
  own: { x: number; width: number } | null;
}

/** Narrower cells are not drawn, nor what is below them. */
const NARROWEST = 0.6;

/** So many cells are drawn at most, the widest. */
const MOST_CELLS = 1500;

/** The cells that a width shows, and how many below the chosen one are too narrow for it. */
export function drawnCells(icicle: Icicle, focus: Cell | null, width: number): { cells: Drawn[]; narrow: number } {
  const [from, to] = focus && focus.to > focus.from ? [focus.from, focus.to] : [0, 1];
  const scale = width / (to - from);
  const cells: Drawn[] = [];
  for (let above = focus?.parent ?? null; above; above = above.parent) {
    cells.unshift({ cell: above, x: 0, width, above: true, own: null });
  }
  const waiting = focus ? [focus] : [...icicle.roots];
  let below = 0;
  for (let next = 0; next < waiting.length && below < MOST_CELLS; next += 1) {
    const cell = waiting[next]!;
    const wide = focus === cell ? width : (cell.to - cell.from) * scale;
    if (wide < NARROWEST) continue;
    below += 1;
    const ownX = (cell.ownFrom - from) * scale;
    const ownWidth = (cell.to - cell.ownFrom) * scale;
    const own = cell.children.length && ownWidth >= NARROWEST ? { x: ownX, width: ownWidth } : null;
    cells.push({ cell, x: focus === cell ? 0 : (cell.from - from) * scale, width: wide, above: false, own });
    for (const child of cell.children) waiting.push(child);
  }
  return { cells, narrow: (focus ? size(focus) : icicle.cells.length) - below };
}

function size(cell: Cell): number {
  let count = 0;
  const waiting = [cell];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    count += 1;
    for (const child of next.children) waiting.push(child);
  }
  return count;
}
