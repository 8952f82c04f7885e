import assert from "node:assert/strict";
import { test } from "node:test";
import type { CompactGraph } from "../../src/core/data";
import { Expressions } from "../../src/core/expressions";

const OPERATIONS: Record<string, [string, number]> = {
  n: ["number", 1], k: ["key", 1], "+": ["add", 2], "-": ["sub", 2], "*": ["mul", 2], d: ["floordiv", 2], "/": ["truediv", 2],
  M: ["maximum", 2], m: ["minimum", 2], "=": ["equal", 2], "<": ["less", 2], "?": ["where", 3],
};

/** One operation over the keys a, b and c, in the order of the letters. */
function one(letter: string): Expressions {
  const arity = OPERATIONS[letter]![1];
  const graph: CompactGraph = {
    ops: `kkk${letter}`,
    args: [0, 1, 2, ...[3, 2, 1].slice(0, arity)],
    keys: ["a", "b", "c"],
    numbers: [],
    names: ["root"],
    roots: [[3]],
    operations: OPERATIONS,
  };
  return new Expressions(graph);
}

const CASES: [string, number[], number][] = [
  ["+", [2, 3], 5], ["-", [2, 3], -1], ["*", [2, 3], 6], ["d", [7, 2], 3], ["d", [-7, 2], -4], ["/", [7, 2], 3.5],
  ["M", [2, 3], 3], ["m", [2, 3], 2], ["=", [2, 2], 1], ["=", [2, 3], 0], ["<", [2, 3], 1], ["<", [3, 3], 0],
  ["?", [1, 5, 6], 5], ["?", [0, 5, 6], 6], ["?", [0, NaN, 6], 6], ["?", [NaN, 5, 6], NaN],
  ["M", [NaN, 3], NaN], ["M", [3, NaN], NaN], ["m", [NaN, 3], NaN], ["m", [3, NaN], NaN], ["=", [NaN, 3], NaN], ["<", [3, NaN], NaN],
];

for (const [letter, [a, b, c], expected] of CASES) {
  test(`${letter} of ${a}, ${b}, ${c}`, () => {
    assert.equal(one(letter).all(0, { a: a!, b: b!, c: c ?? 0 })[0], expected);
  });
}

test("only what a variant needs is worked out, and keys may change", () => {
  // Nodes: a, b, a + b, a * (a + b). The first variant has the sum, the second the product.
  const graph: CompactGraph = {
    ops: "kk+*", args: [0, 1, 2, 1, 3, 1], keys: ["a", "b"], numbers: [], names: ["root"], roots: [[2], [3]], operations: OPERATIONS,
  };
  const expressions = new Expressions(graph);
  assert.deepEqual([...expressions.all(0, { a: 2, b: 3 })], [5]);
  assert.deepEqual([...expressions.all(1, { a: 2, b: 3 })], [10]);
  assert.deepEqual([...expressions.all(1, { a: 4, b: 3 })], [28]);
  assert.deepEqual(expressions.some(1, ["root", "nothing"], { a: 1, b: 1 }), [2, NaN]);
});

test("a key without a value makes what depends on it no number", () => {
  assert.ok(Number.isNaN(one("+").all(0, { a: 1 })[0]));
});
