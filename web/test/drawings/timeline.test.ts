import assert from "node:assert/strict";
import { test } from "node:test";

import { within } from "../../src/drawings/ids";
import { kept, runs, spread } from "../../src/drawings/series";
import { timelineView } from "../../src/drawings/timeline-view";
import type { TimelineData } from "../../src/drawings/types";

function noise(count: number): number[] {
  let state = 7;
  return Array.from({ length: count }, () => (state = (state * 1103515245 + 12345) % 2147483648) / 2);
}

test("a long series keeps each column's least and most, its ends, and what is asked for", () => {
  const values = noise(50_000);
  values[31_234] = 9e12;
  const indices = kept(values, 500, [31_234, 17, -1, 99_999_999]);
  assert.ok(indices.length <= 2 * 500 + 4);
  assert.deepEqual(indices, [...new Set(indices)].sort((a, b) => a - b));
  for (const index of [0, 17, 31_234, 49_999]) assert.ok(indices.includes(index));
  for (let column = 0; column < 500; column += 1) {
    const stretch = values.slice(column * 100, (column + 1) * 100);
    const drawn = indices.filter((index) => index >= column * 100 && index < (column + 1) * 100).map((index) => values[index]!);
    assert.equal(Math.max(...drawn), Math.max(...stretch));
    assert.equal(Math.min(...drawn), Math.min(...stretch));
  }
});

test("a short series is kept whole", () => {
  assert.deepEqual(kept([3, 1, 2], 100), [0, 1, 2]);
  assert.deepEqual(kept([], 100), []);
});

test("runs are neighbours of one value", () => {
  assert.deepEqual(runs(["a", "a", "b", "a"]), [
    { value: "a", from: 0, to: 2 },
    { value: "b", from: 2, to: 3 },
    { value: "a", from: 3, to: 4 },
  ]);
  assert.deepEqual(runs([]), []);
});

test("labels keep their order, their distance and the bounds", () => {
  const places = spread([10, 11, 12, 300, 301], 14, 0, 310);
  places.forEach((place, index) => index && assert.ok(place - places[index - 1]! >= 14 - 1e-9));
  assert.ok(places[0]! >= 0 && places.at(-1)! <= 310);
});

function data(bytes: number[], changes: Partial<TimelineData> = {}): TimelineData {
  return { points: bytes.map((value, index) => ({ bytes: value, label: "mm", module: `m${index}`, stage: "vision" })), peak: 0, holders: [], ...changes };
}

test("the peak is drawn at the top of the data, though thousands of points are not", () => {
  const bytes = noise(20_000);
  bytes[12_345] = 5e12;
  const view = timelineView(data(bytes, { peak: 12_345 }), 60, 660, 20, 420);
  assert.equal(view.peak, 12_345);
  assert.ok(view.drawn.includes(12_345) && view.drawn.length < 1300);
  assert.ok(view.drawn.every((index) => view.y(bytes[index]!) >= view.y(bytes[12_345]!)));
  assert.equal(view.nearest(view.x(12_345)), 12_345);
});

test("a peak that is not the largest is not believed; of equal ones the named one is", () => {
  assert.equal(timelineView(data([1, 9, 3], { peak: 0 }), 0, 100, 0, 100).peak, 1);
  assert.equal(timelineView(data([1, 9, 9], { peak: 2 }), 0, 100, 0, 100).peak, 2);
  assert.equal(timelineView(data([1, 9, 9], { peak: 77 }), 0, 100, 0, 100).peak, 1);
});

test("no points, zeros and values that are no numbers", () => {
  assert.equal(timelineView(data([]), 0, 100, 0, 100).peak, -1);
  const view = timelineView(data([0, NaN, -1, 0]), 0, 100, 0, 100);
  assert.deepEqual(view.bytes, [0, 0, 0, 0]);
  assert.ok(view.bytes.every((value) => Number.isFinite(view.y(value))));
  const huge = timelineView(data([1e18, 2e18]), 0, 100, 0, 100);
  assert.ok(huge.bytesTicks.every((tick) => Number.isFinite(huge.y(tick))));
});

test("holders fill the bar up to the peak: the small ones and what nobody is named for together", () => {
  const holders = [
    { module: "a", bytes: 60, what: "x" },
    { module: "b", bytes: 30, what: "y" },
    ...Array.from({ length: 30 }, (_, index) => ({ module: `s${index}`, bytes: 0.1, what: "z" })),
  ];
  const view = timelineView(data([100], { holders }), 0, 100, 0, 400);
  assert.deepEqual(view.holders.map((held) => [held.module, Math.round(held.bytes)]), [["a", 60], ["b", 30], ["", 10]]);
  assert.equal(view.holders[0]!.bottom, view.y(0));
  assert.ok(Math.abs(view.holders.at(-1)!.top - view.y(100)) < 1e-9);
  view.holders.forEach((held, index) => index && assert.equal(held.bottom, view.holders[index - 1]!.top));
});

test("a holder whose stage is not known has that of the others", () => {
  const holders = [{ module: "a", bytes: 60, what: "", stage: "decode" }, { module: "b", bytes: 40, what: "" }];
  assert.deepEqual(timelineView(data([100], { holders }), 0, 100, 0, 400).holders.map((held) => held.stage), ["decode", "other"]);
});

test("holders of more than the peak do not leave the bar", () => {
  const view = timelineView(data([100], { holders: [{ module: "a", bytes: 80, what: "" }, { module: "b", bytes: 80, what: "" }] }), 0, 100, 0, 400);
  assert.ok(view.holders.every((held) => held.top >= view.y(100) - 1e-9));
});

test("modules belong to families by their names", () => {
  assert.ok(within("layers.[0-11].mlp", "layers.3.mlp.experts.4"));
  assert.ok(within("layers.[0-11].mlp", "layers.11.mlp"));
  assert.ok(!within("layers.[0-11].mlp", "layers.12.mlp"));
  assert.ok(!within("layers.[0-11].mlp", "layers.3.mlp2"));
  assert.ok(within("m.[q_proj,k_proj]", "m.k_proj") && !within("m.[q_proj,k_proj]", "m.v_proj"));
  assert.ok(within("blocks.[0,2,5-7].attn", "blocks.6.attn") && !within("blocks.[0,2,5-7].attn", "blocks.4.attn"));
  assert.ok(within("a.b", "a.b.c") && !within("a.b", "a.bc"));
  assert.ok(within("a.[x(+)-/\\d]", "a.x(+)-/\\d"));
});
