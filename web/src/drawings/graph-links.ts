/** Calls between cards that nesting does not show: from where to where they are drawn. */

import type { Card, Point } from "./graph-layout";
import type { Item } from "./graph-tree";

/** The card of an item, or the closed one that it lies within. */
export function outermost(item: Item, visible: ReadonlyMap<Item, Card>): Card | null {
  for (let outer: Item | null = item; outer; outer = outer.parent) {
    const card = visible.get(outer);
    if (card) return card;
  }
  return null;
}

/** True where one card lies within the other. */
export function holds(outer: Card, inner: Card): boolean {
  for (let item = inner.item?.parent ?? null; item; item = item.parent) if (item === outer.item) return true;
  return false;
}

/** From the middle of one card's nearer side to another's. */
export function between(from: Card, to: Card): Point[] {
  const rightwards = from.x + from.width <= to.x + to.width / 2;
  const start = { x: rightwards ? from.x + from.width : from.x, y: from.y + Math.min(from.height / 2, 13) };
  const end = { x: rightwards ? to.x : to.x + to.width, y: to.y + Math.min(to.height / 2, 13) };
  const middle = (start.x + end.x) / 2;
  return [start, { x: middle, y: start.y }, { x: middle, y: end.y }, end];
}
