import assert from "node:assert/strict";
import { test } from "node:test";
import { csv, fileName } from "../../src/core/files";
import { precise, ratio, shown } from "../../src/core/format";

test("numbers have three significant digits", () => {
  assert.equal(shown(2_809_809_177_604, "flops"), "2.81 TFLOP");
  assert.equal(shown(0.00873, "seconds"), "8.73 ms");
  assert.equal(shown(3072, "count"), "3,072");
  assert.equal(shown(5506.4, "rate"), "5,506");
  assert.equal(shown(-5e9, "bytes"), "−5.00 GB");
  assert.equal(shown(undefined, "bytes"), "–");
  assert.equal(shown(NaN, "seconds"), "–");
});

test("a whole number that lost digits is not shown as if it were exact", () => {
  assert.equal(precise(2 ** 53 - 1, "count"), "9,007,199,254,740,991");
  assert.equal(precise(2 ** 53, "flops"), "about 9.007199e+15 FLOP");
  assert.equal(precise(1e18, "bytes"), "about 1.000000e+18 B");
});

test("ratios need something before and after", () => {
  assert.equal(ratio(2, 1), "×0.500");
  assert.equal(ratio(0, 1), "–");
  assert.equal(ratio(undefined, 1), "–");
});

test("cells that a spreadsheet would work out are marked as text", () => {
  assert.equal(csv([["=1+1", "a,b", 'say "x"', -3.5, undefined, "-x"]]), `'=1+1,"a,b","say ""x""",-3.5,,'-x\r\n`);
});

test("file names hold nothing that a file system refuses", () => {
  assert.equal(fileName("deepseek-ai/DeepSeek-OCR", "modules"), "deepseek-ai-DeepSeek-OCR-modules");
  assert.equal(fileName("../<img>", "x"), "img-x");
});
