/** Numbers for people: three significant digits and decimal prefixes, as the command line writes them. */

const PREFIXES = ["", "K", "M", "G", "T", "P", "E", "Z", "Y"];

export type Unit = "flops" | "bytes" | "seconds" | "count";

const UNITS: Record<Exclude<Unit, "seconds">, string> = { flops: "FLOP", bytes: "B", count: "" };

/** A number that can be drawn: what is missing, negative or no number is 0. */
export function amount(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) && value > 0 ? value : 0;
}

/** `1234567, "B"` becomes `1.23 MB`. */
export function quantity(value: number, unit: string): string {
  let scaled = amount(value);
  let scale = 0;
  while (scaled >= 999.5 && scale < PREFIXES.length - 1) {
    scaled /= 1000;
    scale += 1;
  }
  const number = scale === 0 && Number.isInteger(scaled) ? String(scaled) : threeDigits(scaled);
  return `${number} ${PREFIXES[scale]}${unit}`.trim();
}

function threeDigits(value: number): string {
  if (value > 0 && value < 0.00995) return value.toExponential(1);
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

/** `0.00873` becomes `8.73 ms`. */
export function seconds(value: number): string {
  const time = amount(value);
  for (const [size, unit] of [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]] as const) {
    if (time >= size * 0.9995) return `${threeDigits(time / size)} ${unit}`;
  }
  return time === 0 ? "0 s" : `${threeDigits(time * 1e9)} ns`;
}

/** A value in its unit. */
export function inUnit(value: number, unit: Unit): string {
  return unit === "seconds" ? seconds(value) : quantity(value, UNITS[unit]);
}

/** An exact whole number with its digits in groups, where it is one; otherwise as precisely as it is known. */
export function exact(value: number): string {
  const number = amount(value);
  return number.toLocaleString("en-US", { maximumSignificantDigits: 17 });
}

/** A share of a whole in per cent; `-` where the whole is nothing. */
export function share(part: number, whole: number): string {
  if (amount(whole) === 0) return "-";
  const percent = (100 * amount(part)) / whole;
  return `${percent > 0 && percent < 0.05 ? "<0.1" : percent.toFixed(1)}%`;
}

/** `1 module`, `65 modules`. */
export function counted(number: number, noun: string): string {
  return `${number.toLocaleString("en-US")} ${noun}${number === 1 ? "" : "s"}`;
}
