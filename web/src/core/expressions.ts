/**
 * Works out a graph of expressions for some values of its keys.
 *
 * What a letter means comes with the graph; only the meaning of the operations is known here. Whole numbers are
 * exact below 2^53. What depends on a key that has no value is NaN.
 */

import type { CompactGraph } from "./data";

const OPERATIONS: Record<string, (a: number, b: number, c: number) => number> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  floordiv: (a, b) => Math.floor(a / b),
  truediv: (a, b) => a / b,
  // What is not known (NaN) is never compared away: it stays unknown.
  maximum: (a, b) => (a >= b ? a : b >= a ? b : NaN),
  minimum: (a, b) => (a <= b ? a : b <= a ? b : NaN),
  equal: (a, b) => (a === b ? 1 : a < b || a > b ? 0 : NaN),
  less: (a, b) => (a < b ? 1 : a >= b ? 0 : NaN),
  where: (a, b, c) => (a === 0 ? c : a === a ? b : NaN),
};

export class Expressions {
  readonly names: string[];
  private readonly size: number;
  private readonly operation: ((a: number, b: number, c: number) => number)[];
  /** Three places of arguments for each node; of numbers and keys the first alone. */
  private readonly args: Int32Array;
  private readonly values: Float64Array;
  private readonly keyNodes: { place: number; name: string }[] = [];
  private readonly needed = new Map<string, Int32Array>();
  private readonly places: Map<string, number>;

  constructor(private readonly graph: CompactGraph) {
    this.names = graph.names;
    this.places = new Map(graph.names.map((name, place) => [name, place]));
    this.size = graph.ops.length;
    this.args = new Int32Array(3 * this.size).fill(-1);
    this.values = new Float64Array(this.size);
    this.operation = new Array(this.size);
    let next = 0;
    for (let place = 0; place < this.size; place++) {
      const [name, arity] = graph.operations[graph.ops[place]!]!;
      if (name === "number") this.values[place] = graph.numbers[graph.args[next]!]!;
      else if (name === "key") this.keyNodes.push({ place, name: graph.keys[graph.args[next]!]! });
      else {
        for (let at = 0; at < arity; at++) this.args[3 * place + at] = place - graph.args[next + at]!;
        this.operation[place] = OPERATIONS[name]!;
      }
      next += arity;
    }
  }

  /** The place of a root in what `all` gives; -1 for a name that there is none of. */
  place(name: string): number {
    return this.places.get(name) ?? -1;
  }

  /** Values of all roots of a variant, by the places of their names. */
  all(variant: number, keys: Record<string, number>): Float64Array {
    const roots = this.graph.roots[variant]!;
    this.work(this.below(`${variant}`, roots), keys);
    return Float64Array.from(roots, (place) => this.values[place]!);
  }

  /** Values of some roots of a variant; nothing else is worked out. */
  some(variant: number, names: string[], keys: Record<string, number>): number[] {
    const roots = names.map((name) => this.graph.roots[variant]![this.place(name)] ?? -1);
    this.work(this.below(`${variant} ${names.join(" ")}`, roots.filter((place) => place >= 0)), keys);
    return roots.map((place) => (place >= 0 ? this.values[place]! : NaN));
  }

  private work(nodes: Int32Array, keys: Record<string, number>): void {
    const { values, args, operation } = this;
    for (const { place, name } of this.keyNodes) values[place] = keys[name] ?? NaN;
    for (let at = 0; at < nodes.length; at++) {
      const place = nodes[at]!;
      const first = 3 * place;
      const third = args[first + 2]!;
      values[place] = operation[place]!(
        values[args[first]!]!,
        values[args[first + 1]!]!,
        third < 0 ? 0 : values[third]!,
      );
    }
  }

  /** Operations below some roots, each after its arguments. */
  private below(name: string, roots: number[]): Int32Array {
    const known = this.needed.get(name);
    if (known) return known;
    const wanted = new Uint8Array(this.size);
    for (const root of roots) wanted[root] = 1;
    const found: number[] = [];
    for (let place = this.size - 1; place >= 0; place--) {
      if (!wanted[place] || !this.operation[place]) continue;
      found.push(place);
      for (let at = 0; at < 3; at++) {
        const argument = this.args[3 * place + at]!;
        if (argument >= 0) wanted[argument] = 1;
      }
    }
    const nodes = Int32Array.from(found.reverse());
    this.needed.set(name, nodes);
    return nodes;
  }
}
