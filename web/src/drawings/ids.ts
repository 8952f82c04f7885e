/** Whether a module belongs to a family, by their names: `layers.3.mlp` belongs to `layers.[0-11]`. */

const cache = new Map<string, RegExp>();

/** True for the module that a pattern names, and for every module below it. A bracket lists numbers, ranges or names. */
export function within(pattern: string, module: string): boolean {
  if (module === pattern) return true;
  if (!pattern.includes("[")) return module.startsWith(`${pattern}.`);
  let expression = cache.get(pattern);
  if (expression === undefined) {
    if (cache.size > 500) cache.clear();
    expression = new RegExp(`^(?:${pattern.split(" + ").map(source).join("|")})(?:\\.|$)`, "u");
    cache.set(pattern, expression);
  }
  return expression.test(module);
}

function source(pattern: string): string {
  return pattern
    .split(/(\[[^\]]*\])/)
    .map((piece) => (/^\[.*\]$/s.test(piece) ? `(?:${piece.slice(1, -1).split(",").map(alternative).join("|")})` : literal(piece)))
    .join("");
}

function alternative(text: string): string {
  const range = /^\s*(\d+)-(\d+)\s*$/.exec(text);
  if (range === null) return literal(text.trim());
  const [low, high] = [Number(range[1]), Number(range[2])];
  if (high - low > 10_000) return "\\d+";
  return Array.from({ length: Math.max(0, high - low + 1) }, (_, step) => String(low + step)).join("|");
}

function literal(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}
