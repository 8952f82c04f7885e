import assert from "node:assert/strict";
import { test } from "node:test";

import { amount, counted, exact, inUnit, quantity, seconds, share } from "../../src/drawings/numbers";
import { fitted, plain, textWidth } from "../../src/drawings/text";

test("quantities have three digits and a decimal prefix", () => {
  assert.equal(quantity(0, "B"), "0 B");
  assert.equal(quantity(913, "B"), "913 B");
  assert.equal(quantity(999.6, "B"), "1.00 KB");
  assert.equal(quantity(1234567, "B"), "1.23 MB");
  assert.equal(quantity(2_497_258_421_760, "FLOP"), "2.50 TFLOP");
  assert.equal(quantity(1e18, "FLOP"), "1.00 EFLOP");
  assert.equal(quantity(3e30, ""), "3000000 Y");
  assert.equal(quantity(0.25, "FLOP/B"), "0.25 FLOP/B");
});

test("what is no number is nothing", () => {
  for (const value of [NaN, -1, Infinity, undefined, null, "8"]) assert.equal(amount(value), 0);
  assert.equal(quantity(NaN, "B"), "0 B");
  assert.equal(seconds(-3), "0 s");
  assert.equal(share(1, 0), "-");
});

test("times, shares and exact numbers", () => {
  assert.equal(seconds(0.00873), "8.73 ms");
  assert.equal(seconds(12.34), "12.3 s");
  assert.equal(seconds(4.2e-7), "420 ns");
  assert.equal(share(1, 3), "33.3%");
  assert.equal(share(1, 1e9), "<0.1%");
  assert.equal(exact(787680433), "787,680,433");
  assert.equal(inUnit(5e9, "bytes"), "5.00 GB");
  assert.equal(counted(1, "module"), "1 module");
  assert.equal(counted(2000, "module"), "2,000 modules");
});

test("text that no document can hold is replaced", () => {
  assert.equal(plain("a\u0000b\ud800c\u202Ed\u2028"), "a\uFFFDb\uFFFDc\uFFFDd\uFFFD");
  assert.equal(plain("<img src=x onerror=alert(1)> 模型 😀"), "<img src=x onerror=alert(1)> 模型 😀");
  assert.equal(plain(undefined), "");
});

test("text is cut to a width, never beyond it", () => {
  const name = "sam_model.blocks.[0,1,3,4,6,7,9,10].attn";
  for (const width of [0, 5, 20, 60, 100, 200, 1000]) {
    for (const where of ["end", "middle"] as const) {
      const cut = fitted(name, width, 12, where);
      assert.ok(textWidth(cut, 12) <= width || cut === "", `${cut} in ${width}`);
    }
  }
  assert.equal(fitted(name, 1000, 12), name);
  assert.match(fitted(name, 120, 12, "middle"), /^sam.*….*attn$/);
  assert.equal(Array.from(fitted("😀".repeat(50), 60, 12)).includes("\ud83d"), false);
});
