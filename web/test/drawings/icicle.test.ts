import assert from "node:assert/strict";
import { test } from "node:test";

import { drawnCells, icicleLayout, type Cell } from "../../src/drawings/icicle-layout";
import type { IcicleNode } from "../../src/drawings/types";

function node(id: string, parent: string | null, own: number, total: number, stage = "vision"): IcicleNode {
  return { id, parent, label: id, stage, own, total };
}

const MODEL = [
  node("root", null, 10, 100),
  node("a", "root", 20, 60),
  node("b", "root", 30, 30, "decode"),
  node("a1", "a", 15, 15),
  node("a2", "a", 25, 25),
];

const width = (cell: Cell): number => cell.to - cell.from;

test("a cell is as wide as its callees and its own part together", () => {
  const icicle = icicleLayout(MODEL);
  assert.equal(icicle.total, 100);
  for (const cell of icicle.cells) {
    const below = cell.children.reduce((sum, child) => sum + width(child), 0);
    const own = cell.to - cell.ownFrom;
    assert.ok(Math.abs(below + own - width(cell)) < 1e-12, cell.node.id);
    assert.ok(Math.abs(width(cell) - cell.total / 100) < 1e-12, cell.node.id);
    assert.ok(Math.abs(own - cell.own / 100) < 1e-12, cell.node.id);
  }
});

test("cells of one row do not overlap and lie within their callers", () => {
  const icicle = icicleLayout(MODEL);
  for (const cell of icicle.cells) {
    if (cell.parent) assert.ok(cell.from >= cell.parent.from && cell.to <= cell.parent.to && cell.depth === cell.parent.depth + 1);
    cell.children.forEach((child, index) => index && assert.ok(child.from >= cell.children[index - 1]!.to));
  }
});

test("what does not add up, such as peaks, stays within its caller", () => {
  const icicle = icicleLayout([node("root", null, 0, 100), node("a", "root", 90, 90), node("b", "root", 70, 70)]);
  const [a, b] = [icicle.byId.get("a")!, icicle.byId.get("b")!];
  assert.ok(b.to <= 1 && Math.abs(width(a) / width(b) - 90 / 70) < 1e-12);
});

test("a caller of several stages is of none", () => {
  const icicle = icicleLayout(MODEL);
  assert.equal(icicle.byId.get("root")!.mixed, true);
  assert.equal(icicle.byId.get("a")!.mixed, false);
});

test("missing, huge and negative values, unknown parents, loops and repeated ids", () => {
  const icicle = icicleLayout([
    node("root", null, 0, 1e18),
    node("x", "root", NaN, NaN),
    node("y", "root", -5, -5),
    node("z", "root", 1e18, 1e18),
    node("z", "root", 1, 1),
    node("orphan", "nobody", 1, 1),
    node("p", "q", 1, 1),
    node("q", "p", 1, 1),
    node("self", "self", 1, 1),
  ]);
  assert.equal(icicle.unreachable, 2);
  assert.deepEqual(icicle.roots.map((cell) => cell.node.id), ["root", "orphan", "self"]);
  for (const cell of icicle.cells) assert.ok(cell.from >= 0 && cell.to <= 1 && cell.from <= cell.to, cell.node.id);
  assert.equal(width(icicle.byId.get("x")!), 0);
});

test("nothing at all", () => {
  const icicle = icicleLayout([]);
  assert.deepEqual(drawnCells(icicle, null, 800), { cells: [], narrow: 0 });
  const zero = icicleLayout([node("root", null, 0, 0)]);
  assert.equal(drawnCells(zero, null, 800).cells.length + drawnCells(zero, null, 800).narrow, 1);
});

test("an enlarged cell fills the width, its callers above it", () => {
  const icicle = icicleLayout(MODEL);
  const { cells, narrow } = drawnCells(icicle, icicle.byId.get("a")!, 600);
  assert.deepEqual(cells.map((drawn) => [drawn.cell.node.id, drawn.above]), [["root", true], ["a", false], ["a1", false], ["a2", false]]);
  assert.equal(narrow, 0);
  assert.equal(cells[1]!.width, 600);
  assert.ok(Math.abs(cells[2]!.width - (600 * 15) / 60) < 1e-9);
  assert.ok(Math.abs(cells[1]!.own!.width - (600 * 20) / 60) < 1e-9);
});

test("a hundred thousand modules are laid out at once and drawn in part", () => {
  const nodes = [node("root", null, 0, 100_000)];
  for (let index = 0; index < 100_000; index += 1) nodes.push(node(`m${index}`, index < 10 ? "root" : `m${Math.floor(index / 10) - 1}`, 1, 1));
  const begin = performance.now();
  const icicle = icicleLayout(nodes);
  const { cells, narrow } = drawnCells(icicle, null, 1200);
  assert.ok(performance.now() - begin < 3000);
  assert.ok(cells.length <= 1500);
  assert.equal(cells.length + narrow, icicle.cells.length);
});

test("a chain of a hundred thousand callers does not overflow", () => {
  const nodes = Array.from({ length: 100_000 }, (_, index) => node(`m${index}`, index ? `m${index - 1}` : null, 0, 5));
  const icicle = icicleLayout(nodes);
  assert.equal(icicle.depth, 99_999);
  assert.equal(drawnCells(icicle, null, 1200).cells.length, 1500);
});
