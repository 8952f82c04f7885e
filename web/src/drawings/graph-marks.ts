/** What a card and an arrow of the call graph look like. */

import { badge, badgeWidth, CARD, type Card, type Point } from "./graph-layout";
import type { Item } from "./graph-tree";
import { counted } from "./numbers";
import { stageClass } from "./style";
import { attributes, mark, rounded } from "./svg";
import { fitted, plain, textWidth } from "./text";
import type { Note } from "./tooltip";

const RADIUS = 6;
const MOST_LINES = 14;
const MOST_FORMS = 4;

/** What a card looks like, drawn from its corner: its shapes, and its words, which lie above all cards. */
export interface CardMarks {
  shapes: SVGElement[];
  words: SVGElement[];
}

export function cardMarks(card: Card): CardMarks {
  if (card.item === null) return moreMarks(card);
  const { node } = card.item;
  const stage = stageClass(card.item.mixed ? "other" : node.stage);
  const stack = node.repeat ? CARD.stack : 0;
  const [width, height] = [card.width - stack, card.height - stack];
  const marks: SVGElement[] = [];
  for (let back = stack; back > 0; back -= stack / 2) {
    marks.push(mark("rect", { class: `mm-card ${stage}`, x: back, y: back, width, height, rx: RADIUS, "stroke-opacity": 0.6 }));
  }
  marks.push(
    mark("rect", { class: `mm-card ${stage}`, width, height, rx: RADIUS }),
    mark("rect", { class: `mm-tint ${stage}`, width, height, rx: RADIUS }),
  );
  const { shapes, words } = titleMarks(card.item, stage, width, card.open);
  return { shapes: [...marks, ...shapes], words };
}

function titleMarks(item: Item, stage: string, width: number, open: boolean): CardMarks {
  const { label, className, repeat } = item.node;
  const shapes: SVGElement[] = [];
  const words: SVGElement[] = [];
  const middle = 13;
  let left = 8;
  let right = width - 8;
  if (item.children.length) {
    shapes.push(toggle(stage, open, left - 1, middle));
    left += CARD.toggle;
  }
  if (repeat) {
    const wide = badgeWidth(repeat) - 6;
    right -= wide;
    shapes.push(mark("rect", { class: `mm-badge ${stage}`, x: right + 2, y: middle - 8, width: wide, height: 16, rx: 8 }));
    words.push(mark("text", { class: "mm-small mm-strong", x: right + 2 + wide / 2, y: middle + 4, "text-anchor": "middle" }, badge(repeat)));
    right -= 4;
  }
  const name = fitted(plain(label), right - left, CARD.size, "middle", 600);
  words.push(mark("text", { class: "mm-strong", x: left, y: middle + 4 }, name));
  left += textWidth(name, CARD.size, 600) + 7;
  if (className && className !== label && right - left > 24) {
    words.push(mark("text", { class: "mm-small mm-muted", x: left, y: middle + 4 }, fitted(className, right - left, CARD.size - 1)));
  }
  return { shapes, words };
}

function toggle(stage: string, open: boolean, x: number, y: number): SVGGElement {
  const plus = open ? "" : `M${x + 7},${y - 4}V${y + 4}`;
  return mark(
    "g",
    { class: "mm-toggle", "data-toggle": "" },
    mark("rect", { class: stage, x, y: y - 7, width: 14, height: 14, rx: 3 }),
    mark("path", { d: `M${x + 3},${y}H${x + 11}${plus}` }),
  );
}

function moreMarks(card: Card): CardMarks {
  const count = (card.more?.count ?? 0).toLocaleString("en-US");
  return {
    shapes: [mark("rect", { class: "mm-card mm-stage-other", width: card.width, height: card.height, rx: RADIUS, "stroke-dasharray": "4 3" })],
    words: [mark("text", { class: "mm-muted", x: card.width / 2, y: 17, "text-anchor": "middle" }, `${count} more …`)],
  };
}

/** A line through points with rounded corners, and the head at its end. */
export function arrow(points: readonly Point[], style: string): [SVGPathElement, SVGPathElement] {
  const end = points.at(-1)!;
  const before = points.at(-2) ?? end;
  const length = Math.hypot(end.x - before.x, end.y - before.y) || 1;
  const [dx, dy] = [(end.x - before.x) / length, (end.y - before.y) / length];
  const neck = { x: end.x - dx * 5, y: end.y - dy * 5 };
  const steps = [`M${at(points[0]!)}`];
  for (let index = 1; index < points.length - 1; index += 1) {
    const [corner, next] = [points[index]!, points[index + 1]!];
    const middle = index === points.length - 2 ? neck : { x: (corner.x + next.x) / 2, y: (corner.y + next.y) / 2 };
    steps.push(`Q${at(corner)} ${at(middle)}`);
  }
  if (points.length < 3) steps.push(`L${at(neck)}`);
  const head = [end, { x: neck.x - dy * 3.4, y: neck.y + dx * 3.4 }, { x: neck.x + dy * 3.4, y: neck.y - dx * 3.4 }];
  return [
    mark("path", { class: style, d: steps.join("") }),
    mark("path", { class: `${style}-head`, d: `M${head.map(at).join("L")}Z` }),
  ];
}

function at({ x, y }: Point): string {
  return `${rounded(x)},${rounded(y)}`;
}

/** Sets what a card is to a keyboard and to those who hear it. */
export function nameCard(group: SVGGElement, card: Card): void {
  if (card.item === null) {
    attributes(group, { role: "treeitem", "aria-label": `${counted(card.more?.count ?? 0, "module")} more, Enter shows them` });
    return;
  }
  const { item } = card;
  const { label, className, repeat, stage } = item.node;
  const parts = [label, className === label ? "" : className, repeat, stage].map(plain).filter(Boolean);
  if (item.children.length) parts.push(`calls ${counted(item.children.length, "kind")} of modules`);
  attributes(group, {
    role: "treeitem",
    "aria-label": parts.join(", "),
    "aria-level": item.depth + 1,
    "aria-expanded": item.children.length ? String(card.open) : null,
    "aria-selected": "false",
  });
}

/** What is known of a module, for a note. */
export function cardNote(card: Card): Note {
  if (card.item === null) return { title: counted(card.more?.count ?? 0, "module"), rows: [["", "not shown; click to show more of them"]] };
  const { node, children } = card.item;
  const rows: [string, string][] = [["", plain(node.id)]];
  if (node.className && node.className !== node.label) rows.push(["class", plain(node.className)]);
  if (node.repeat) rows.push(["repeats", plain(node.repeat)]);
  rows.push(["stage", plain(node.stage)]);
  const configuration = Object.entries(node.configuration ?? {});
  for (const [key, value] of configuration.slice(0, MOST_LINES)) rows.push([plain(key), written(value)]);
  if (configuration.length > MOST_LINES) rows.push(["", `and ${configuration.length - MOST_LINES} more`]);
  rows.push(...forms("in", node.inputs), ...forms("out", node.outputs));
  if (children.length && !card.open) rows.push(["within", counted(children.length, "kind") + " of modules"]);
  return { title: plain(node.label), rows };
}

function forms(name: string, signatures: readonly string[]): [string, string][] {
  const rows = signatures.slice(0, MOST_FORMS).map((text, index): [string, string] => [index ? "" : name, plain(text)]);
  if (signatures.length > MOST_FORMS) rows.push(["", `and ${signatures.length - MOST_FORMS} more forms`]);
  return rows;
}

/** A configuration's value: `14×14`, `16 or 32` where members differ. */
function written(value: unknown): string {
  if (Array.isArray(value)) return value.length ? value.map(written).join("×") : "none";
  if (value !== null && typeof value === "object") {
    const choices = (value as Record<string, unknown>)["one of"];
    return Array.isArray(choices) ? choices.map(written).join(" or ") : fitted(JSON.stringify(value), 400, 12);
  }
  return fitted(plain(value), 600, 12);
}
