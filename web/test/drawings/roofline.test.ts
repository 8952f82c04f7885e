import assert from "node:assert/strict";
import { test } from "node:test";

import { overlap, placed, type Wanted } from "../../src/drawings/labels";
import { rooflineView, roofsOf } from "../../src/drawings/roofline-view";
import type { RooflineData, RooflinePoint } from "../../src/drawings/types";

const PLOT = { left: 60, right: 960, top: 20, bottom: 520 };

function point(id: string, flops: number, bytes: number, time: number): RooflinePoint {
  return { id, stage: "vision", label: id, flops, bytes, seconds: time, bound: "compute" };
}

const DEVICE = {
  roofs: [
    { label: "float32", flopsPerSecond: 67e12 },
    { label: "bfloat16", flopsPerSecond: 989e12 },
    { label: "vector", flopsPerSecond: 67e12 },
  ],
  bytesPerSecond: 3.35e12,
};

test("equal roofs are one, the highest first, each with its ridge", () => {
  const roofs = roofsOf({ points: [], ...DEVICE });
  assert.deepEqual(roofs.map((roof) => roof.label), ["bfloat16", "float32, vector"]);
  assert.equal(roofs[0]!.ridge, 989e12 / 3.35e12);
});

test("roofs that are no numbers are none, and no bandwidth is no ridge", () => {
  const roofs = roofsOf({ points: [], roofs: [{ label: "a", flopsPerSecond: NaN }, { label: "b", flopsPerSecond: 1e12 }], bytesPerSecond: 0 });
  assert.deepEqual(roofs, [{ label: "b", rate: 1e12, ridge: 0 }]);
});

test("a point on the roof lies on it, at the ridge and below", () => {
  const ridge = 989e12 / 3.35e12;
  const view = rooflineView({ points: [point("at", 989e12, 3.35e12, 1), point("below", 3.35e10, 3.35e10, 0.01)], ...DEVICE }, PLOT);
  const [at, below] = view.points;
  assert.ok(Math.abs(at!.x - view.x.at(ridge)) < 1e-9 && Math.abs(at!.y - view.y.at(989e12)) < 1e-9);
  // Memory's roof at 1 FLOP a byte is the bandwidth.
  assert.ok(Math.abs(below!.y - view.y.at(3.35e12)) < 1e-9);
});

test("the area of a mark is its time", () => {
  const view = rooflineView({ points: [point("a", 1e12, 1e9, 4), point("b", 1e12, 1e9, 1)], ...DEVICE }, PLOT);
  assert.equal(view.points[0]!.point.id, "a");
  assert.ok(Math.abs((view.points[0]!.radius / view.points[1]!.radius) ** 2 - 4) < 1e-9);
});

test("points without FLOPs, bytes or time are counted, not drawn", () => {
  const data: RooflineData = { points: [point("a", 0, 1, 1), point("b", 1, 0, 1), point("c", 1, 1, 0), point("d", NaN, 1, 1), point("e", 1e9, 1e6, 1e-3)], ...DEVICE };
  const view = rooflineView(data, PLOT);
  assert.deepEqual(view.points.map((found) => found.point.id), ["e"]);
  assert.equal(view.unplaced, 4);
});

test("huge, tiny and absent figures stay within the plot", () => {
  for (const points of [[], [point("a", 1e18, 1e18, 1e-9), point("b", 1e-3, 1e18, 1e6)], [point("c", 1e300, 1e-300, 1e-300)]]) {
    const view = rooflineView({ points, roofs: points.length === 1 ? [] : DEVICE.roofs, bytesPerSecond: DEVICE.bytesPerSecond }, PLOT);
    for (const { x, y } of view.points) {
      assert.ok(x >= PLOT.left && x <= PLOT.right && y >= PLOT.top && y <= PLOT.bottom, `${x} ${y}`);
    }
    assert.ok(view.x.ticks.length >= 2 && view.x.ticks.length <= 10);
    assert.deepEqual([view.x.ticks[0], view.x.ticks.at(-1)], [view.x.low, view.x.high]);
  }
});

test("labels cover neither each other, nor marks, nor the border", () => {
  const bounds = { x: 0, y: 0, width: 400, height: 300 };
  const wanted: Wanted[] = Array.from({ length: 60 }, (_, index) => ({
    x: (index * 97) % 400,
    y: (index * 61) % 300,
    radius: 4 + (index % 9),
    width: 30 + (index % 7) * 12,
    height: 14,
  }));
  const marks = wanted.map(({ x, y, radius }) => ({ x: x - radius, y: y - radius, width: 2 * radius, height: 2 * radius }));
  const boxes = placed(wanted, marks, bounds).filter((box) => box !== null);
  assert.ok(boxes.length > 5);
  boxes.forEach((box, index) => {
    assert.ok(box.x >= 0 && box.y >= 0 && box.x + box.width <= 400 && box.y + box.height <= 300);
    for (const other of [...boxes.slice(0, index), ...marks]) assert.ok(!overlap(box, other));
  });
});
