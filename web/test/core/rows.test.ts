import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModuleRow } from "../../src/core/data";
import { FixedFigures } from "../../src/core/figures";
import { Tree } from "../../src/core/tree";
import { COLUMNS } from "../../src/core/columns";
import { RowList, type Order } from "../../src/views/rows";

function module(id: string, parent: number | null): ModuleRow {
  return { id, name: id, class: `Class${id}`, qualified: id, stage: "other", repeat: "", parent, config: {} };
}

const MODULES = [module("root", null), module("a", 0), module("b", 0), module("b.c", 2)];
const INSTANCES = { id: ["root", "a", "b0", "b1", "b0.c", "b1.c"], family: [0, 1, 2, 2, 3, 3], parent: [-1, 0, 0, 0, 2, 3], calls: [], flops: [], parameters: [], peak: [] };
const FIGURES = new FixedFigures({ columns: { "all/flops": [10, 2, null, 7] }, run: {} });

const ORDER: Order = { column: undefined, descending: true, flat: false, search: "", stage: "all", figures: FIGURES };

function list(): { tree: Tree; rows: RowList; ids(order?: Partial<Order>): string[] } {
  const tree = new Tree(MODULES, INSTANCES);
  const rows = new RowList(tree);
  const ids = (order: Partial<Order> = {}): string[] =>
    rows.rows({ ...ORDER, ...order }).map((row) => (row.instance >= 0 ? INSTANCES.id[row.instance]! : MODULES[row.module]!.id));
  return { tree, rows, ids };
}

test("rows follow the tree as far as it is opened", () => {
  const { rows, ids } = list();
  rows.openAll();
  assert.deepEqual(ids(), ["root", "a", "b", "b.c"]);
  rows.closeAll();
  assert.deepEqual(ids(), ["root", "a", "b"]);
});

test("siblings are sorted, and what is not known comes last either way", () => {
  const { ids } = list();
  const column = COLUMNS.find((one) => one.name === "flops");
  assert.deepEqual(ids({ column, flat: true }), ["root", "b.c", "a", "b"]);
  assert.deepEqual(ids({ column, flat: true, descending: false }), ["a", "b.c", "root", "b"]);
});

test("a family unfolds into its single modules, and these into what they call", () => {
  const { rows, tree, ids } = list();
  rows.closeAll();
  rows.unfolded.add(2);
  assert.deepEqual(ids(), ["root", "a", "b", "b0", "b1"]);
  rows.expanded.add(rows.key(2, tree.instance("b0")));
  assert.deepEqual(ids(), ["root", "a", "b", "b0", "b0.c", "b1"]);
});

test("what is selected elsewhere is revealed", () => {
  const { rows, ids } = list();
  rows.closeAll();
  assert.equal(rows.reveal("b.c"), "m3");
  assert.ok(ids().includes("b.c"));
  assert.equal(rows.reveal("b1.c"), "i5");
  assert.equal(rows.reveal("nobody"), null);
});

test("a search finds families by id and class, and single modules by id", () => {
  const { ids } = list();
  assert.deepEqual(ids({ search: "classa" }), ["a"]);
  assert.deepEqual(ids({ search: "b1" }), ["b1", "b1.c"]);
});
