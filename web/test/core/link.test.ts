import assert from "node:assert/strict";
import { test } from "node:test";
import { fragment, readFragment } from "../../src/core/link";
import type { State } from "../../src/core/state";

const INITIAL: State = {
  selected: null, tab: "roofline", stage: "all", sort: "", descending: true, columns: ["calls", "flops"], flat: false,
  search: "", measure: "estimate", theme: "auto", settings: {}, pinned: null,
};
const COLUMNS = ["calls", "flops", "bytes"];

test("what is as at first needs no fragment", () => {
  assert.equal(fragment(INITIAL, INITIAL), "");
  assert.deepEqual(readFragment("", INITIAL, COLUMNS), INITIAL);
});

test("a state comes back from its fragment", () => {
  const state: State = {
    ...INITIAL, selected: "a.[0-3]&b=<c>", tab: "compare", stage: "decode", sort: "bytes", descending: false, columns: ["bytes"], flat: true,
    search: "x y", theme: "dark", settings: { batch: 8, grid: [3, 2], device: "h200", decode_steps: 0 }, pinned: { size: [1240, 1754] },
  };
  assert.deepEqual(readFragment(`#${fragment(state, INITIAL)}`, INITIAL, COLUMNS), state);
  assert.deepEqual(readFragment(`#${fragment({ ...INITIAL, pinned: {} }, INITIAL)}`, INITIAL, COLUMNS).pinned, {});
});

test("what is not understood is left out", () => {
  const found = readFragment("#tab=nowhere&sort=evil&batch=-1&grid=2&theme=pink&columns=calls,evil&size=1x2x3", INITIAL, COLUMNS);
  assert.deepEqual(found, { ...INITIAL, columns: ["calls"] });
});
