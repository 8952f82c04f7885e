/** A long series drawn on few pixels: what matters of it stays. */

/**
 * Indices of a series to draw, in order: the first and the last, each column's least and most, and `keep`.
 *
 * A drawing of these has the outline of the whole series, where a column is a pixel wide.
 */
export function kept(values: readonly number[], columns: number, keep: readonly number[] = []): number[] {
  const count = values.length;
  if (count <= 2 * columns) return values.map((_, index) => index);
  const found = new Set<number>([0, count - 1, ...keep.filter((index) => index >= 0 && index < count)]);
  for (let column = 0; column < columns; column += 1) {
    const from = Math.floor((column * count) / columns);
    const to = Math.floor(((column + 1) * count) / columns);
    let [least, most] = [from, from];
    for (let index = from + 1; index < to; index += 1) {
      if (values[index]! < values[least]!) least = index;
      if (values[index]! > values[most]!) most = index;
    }
    found.add(least).add(most);
  }
  return [...found].sort((a, b) => a - b);
}

export interface Run<Value> {
  value: Value;
  from: number;
  /** The index after the last one. */
  to: number;
}

/** Neighbours of one value together. */
export function runs<Value>(values: readonly Value[]): Run<Value>[] {
  const found: Run<Value>[] = [];
  values.forEach((value, index) => {
    const last = found.at(-1);
    if (last !== undefined && last.value === value) last.to = index + 1;
    else found.push({ value, from: index, to: index + 1 });
  });
  return found;
}

/** Heights of labels that want to be at certain heights, in order, at least `apart` from each other, within bounds. */
export function spread(wanted: readonly number[], apart: number, low: number, high: number): number[] {
  const places: number[] = [];
  wanted.forEach((want, index) => places.push(Math.max(want, index ? places[index - 1]! + apart : low)));
  let limit = high;
  for (let index = places.length - 1; index >= 0; index -= 1) {
    places[index] = Math.min(places[index]!, limit);
    limit = places[index]! - apart;
  }
  return places;
}
