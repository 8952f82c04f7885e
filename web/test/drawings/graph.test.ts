import assert from "node:assert/strict";
import { test } from "node:test";

import { badge, CARD, graphLayout, type Card, type GraphLayout } from "../../src/drawings/graph-layout";
import { CARDS_AT_ONCE, FIRST_CARDS, MOST_CARDS, Opened, treeOf, type Item } from "../../src/drawings/graph-tree";
import type { GraphData, GraphEdge, GraphNode } from "../../src/drawings/types";

function node(id: string, parent: string | null, repeat = "", stage = "vision"): GraphNode {
  return { id, className: "Linear", label: id, repeat, stage, configuration: {}, inputs: [], outputs: [], parent };
}

function flow(from: string, to: string): GraphEdge {
  return { from, to, label: "", kind: "data", count: 1 };
}

function call(from: string, to: string): GraphEdge {
  return { from, to, label: "for 12", kind: "call", count: 12 };
}

const MODEL: GraphData = {
  nodes: [
    node("root", null),
    node("block", "root", "for 12"),
    node("norm", "block"),
    node("attn", "block"),
    node("qkv", "attn", "parfor 3"),
    node("proj", "attn"),
    node("mlp", "block"),
    node("head", "root", "", "decode"),
  ],
  edges: [
    flow("norm", "attn"), flow("attn", "mlp"), flow("qkv", "proj"), flow("block", "head"), flow("mlp", "norm"),
    call("root", "block"), call("block", "norm"), call("root", "qkv"),
  ],
};

function inside(inner: Card, outer: Card): boolean {
  return inner.x >= outer.x && inner.y >= outer.y && inner.x + inner.width <= outer.x + outer.width && inner.y + inner.height <= outer.y + outer.height;
}

function apart(a: Card, b: Card): boolean {
  return a.x + a.width <= b.x + 1e-6 || b.x + b.width <= a.x + 1e-6 || a.y + a.height <= b.y + 1e-6 || b.y + b.height <= a.y + 1e-6;
}

/** Every card within its caller's below the title, siblings apart, everything within the layout. */
function assertTidy(layout: GraphLayout): void {
  const byItem = new Map<Item | null, Card[]>();
  const cards = new Map(layout.cards.map((card) => [card.item, card]));
  for (const card of layout.cards) {
    const around = card.item ? card.item.parent : card.more!.of;
    byItem.set(around, [...(byItem.get(around) ?? []), card]);
    const outer = around && cards.get(around);
    if (outer) assert.ok(inside(card, outer) && card.y >= outer.y + CARD.header - 1e-6, card.item?.node.id);
    assert.ok(card.x >= -1e-6 && card.y >= -1e-6 && card.x + card.width <= layout.width + 1e-6 && card.y + card.height <= layout.height + 1e-6);
  }
  for (const siblings of byItem.values()) {
    siblings.forEach((card, index) => siblings.slice(0, index).forEach((other) => assert.ok(apart(card, other))));
  }
  for (const { points } of layout.flows) assert.ok(points.length >= 2 && points.every(({ x, y }) => Number.isFinite(x) && Number.isFinite(y)));
}

test("cards lie within their callers and apart from each other, in every shape", () => {
  const tree = treeOf(MODEL);
  const opened = new Opened(tree);
  for (const [width, height] of [[1400, 900], [400, 900], [1600, 300]] as const) {
    const layout = graphLayout(tree, opened, width, height);
    assert.equal(layout.cards.length, 8);
    assertTidy(layout);
  }
});

test("flows are drawn where their ends lie side by side, calls only where nesting does not show them", () => {
  const tree = treeOf(MODEL);
  const flows = (id: string | null): string[] =>
    (tree.flows.get(id === null ? null : tree.byId.get(id)!) ?? []).map(({ from, to }) => `${from.node.id}>${to.node.id}`);
  assert.deepEqual(flows("block"), ["norm>attn", "attn>mlp", "mlp>norm"]);
  assert.deepEqual(flows("root"), ["block>head"]);
  assert.deepEqual(tree.calls.map(({ from, to }) => `${from.node.id}>${to.node.id}`), ["root>qkv"]);
});

test("a flow between cards of different callers is one of the cards that hold them", () => {
  const tree = treeOf({ nodes: MODEL.nodes, edges: [flow("qkv", "head"), flow("qkv", "mlp"), flow("qkv", "attn"), flow("qkv", "qkv")] });
  const all = [...tree.flows.values()].flat().map(({ from, to }) => `${from.node.id}>${to.node.id}`);
  assert.deepEqual(all, ["block>head", "attn>mlp"]);
});

test("a caller of several stages is of none", () => {
  const tree = treeOf(MODEL);
  assert.equal(tree.byId.get("root")!.mixed, true);
  assert.equal(tree.byId.get("block")!.mixed, false);
});

test("unknown ends, unknown parents, loops and repeated ids", () => {
  const tree = treeOf({
    nodes: [node("a", null), node("a", "b"), node("orphan", "nobody"), node("p", "q"), node("q", "p"), node("self", "self")],
    edges: [flow("a", "nobody"), call("p", "a"), call("a", "p"), flow("q", "a")],
  });
  assert.equal(tree.unreachable, 2);
  assert.deepEqual(tree.roots.map((item) => item.node.id), ["a", "orphan", "self"]);
  assert.deepEqual([tree.calls.length, tree.flows.size], [0, 0]);
  assertTidy(graphLayout(tree, new Opened(tree), 800, 600));
});

test("no modules at all", () => {
  const tree = treeOf({ nodes: [], edges: [] });
  const layout = graphLayout(tree, new Opened(tree), 800, 600);
  assert.deepEqual([layout.cards.length, layout.flows.length], [0, 0]);
  assert.ok(layout.width > 0 && layout.height > 0);
});

test("opening and closing cards, one by one and with all below", () => {
  const tree = treeOf(MODEL);
  const opened = new Opened(tree);
  const block = tree.byId.get("block")!;
  assert.equal(opened.count(), 8);
  opened.toggle(block);
  assert.equal(opened.count(), 3);
  opened.toggle(block);
  assert.equal(opened.count(), 8);
  opened.toggleAll(block);
  assert.equal(opened.count(), 3);
  opened.toggleAll(block);
  assert.equal(opened.count(), 8);
  opened.close();
  assert.equal(opened.count(), 3);
  opened.reveal(tree.byId.get("qkv")!);
  assert.ok(opened.has(block) && opened.has(tree.byId.get("attn")!));
});

function large(fan: number, count: number): GraphData {
  const nodes = [node("root", null)];
  for (let index = 0; index < count - 1; index += 1) nodes.push(node(`m${index}`, index < fan ? "root" : `m${Math.floor(index / fan) - 1}`, "for 2"));
  const edges = nodes.slice(2).map((later, index) => flow(nodes[index + 1]!.id, later.id));
  return { nodes, edges };
}

test("a hundred thousand modules are drawn a few hundred at a time", () => {
  for (const fan of [3, 30, 100_000]) {
    const begin = performance.now();
    const tree = treeOf(large(fan, 100_000));
    const opened = new Opened(tree);
    assert.ok(opened.count() <= FIRST_CARDS);
    const layout = graphLayout(tree, opened, 1400, 900);
    assertTidy(layout);
    const drawn = layout.cards.filter((card) => card.item).length;
    assert.equal(drawn, opened.count());
    for (const item of tree.items.slice(0, 60)) {
      if (item.children.length && !opened.has(item)) opened.toggle(item);
      assert.ok(opened.count() <= MOST_CARDS);
    }
    opened.reset(MOST_CARDS);
    assert.ok(opened.count() <= MOST_CARDS);
    graphLayout(tree, opened, 1400, 900);
    assert.ok(performance.now() - begin < 20_000);
  }
});

test("of many callees some are shown, more on request, never too many", () => {
  const tree = treeOf(large(5000, 5001));
  const opened = new Opened(tree);
  const root = tree.roots[0]!;
  assert.deepEqual([opened.within(root).shown.length, opened.within(root).more], [CARDS_AT_ONCE, 5000 - CARDS_AT_ONCE]);
  for (let press = 0; press < 50; press += 1) opened.more(root);
  assert.ok(opened.count() <= MOST_CARDS + 1);
  assertTidy(graphLayout(tree, opened, 1400, 900));
});

test("what is opened stays open when others are closed to make room", () => {
  const tree = treeOf(large(35, 3000));
  const opened = new Opened(tree);
  const leafward = tree.items.find((item) => item.depth === 1 && item.children.length)!;
  opened.reset(MOST_CARDS);
  if (opened.has(leafward)) opened.toggle(leafward);
  opened.toggle(leafward);
  assert.ok(opened.has(leafward) && opened.count() <= MOST_CARDS);
});

test("a deep chain of callers is drawn in part", () => {
  const nodes = Array.from({ length: 50_000 }, (_, index) => node(`m${index}`, index ? `m${index - 1}` : null));
  const tree = treeOf({ nodes, edges: [flow("m49999", "m3")] });
  const opened = new Opened(tree);
  assert.equal(opened.count(), FIRST_CARDS);
  assertTidy(graphLayout(tree, opened, 1400, 900));
});

test("repeats as they are written on cards", () => {
  assert.deepEqual(["for 12", "for 2-6", "parfor 64", ""].map(badge), ["×12", "×2-6", "parfor 64", ""]);
});
