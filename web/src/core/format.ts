/** Numbers for people. Three significant digits with decimal prefixes, as the command line writes them. */

import { quantity, seconds as positiveSeconds } from "../drawings/numbers";

export type Unit = "flops" | "bytes" | "seconds" | "count" | "share" | "rate" | "usd";

export const NONE = "–";

/** A value in its unit; a dash where there is none. */
export function shown(value: number | undefined, unit: Unit): string {
  if (value === undefined || !Number.isFinite(value)) return NONE;
  const sign = value < 0 ? "−" : "";
  const size = Math.abs(value);
  switch (unit) {
    case "flops":
      return sign + quantity(size, "FLOP");
    case "bytes":
      return sign + quantity(size, "B");
    case "seconds":
      return sign + positiveSeconds(size);
    case "share":
      return value > 0 && value < 0.0005 ? "<0.1%" : `${(value * 100).toFixed(1)}%`;
    case "rate":
      return sign + digits(size);
    case "usd":
      return `${sign}$${digits(size)}`;
    default:
      return sign + (size < 10_000 && Number.isInteger(size) ? grouped(size) : quantity(size, ""));
  }
}

function digits(value: number): string {
  if (value === 0) return "0";
  if (value >= 1e4) return quantity(value, "");
  if (value < 0.001) return value.toExponential(2);
  return value < 99.95 ? value.toFixed(value < 0.9995 ? 3 : value < 9.995 ? 2 : 1) : grouped(Math.round(value));
}

/** Bytes as errors of the command line have them. */
export function exactBytes(value: number): string {
  return shown(value, "bytes").replace("−", "-");
}

function grouped(value: number): string {
  return value.toLocaleString("en-US");
}

/**
 * All digits that are known. A whole number from 2^53 on has lost its last digits on the way, and says so.
 */
export function precise(value: number | undefined, unit: Unit): string {
  if (value === undefined || !Number.isFinite(value)) return "not known";
  const suffix = { flops: " FLOP", bytes: " B", seconds: " s", count: "", share: "", rate: "", usd: " USD" }[unit];
  if (!Number.isInteger(value)) return `${Number(value.toPrecision(15))}${suffix}`;
  if (Number.isSafeInteger(value)) return `${grouped(value)}${suffix}`;
  return `about ${value.toExponential(6)}${suffix}`;
}

/** Before over after: `×0.52`. */
export function ratio(before: number | undefined, after: number | undefined): string {
  if (before === undefined || after === undefined || !Number.isFinite(after) || !(Math.abs(before) > 0)) return NONE;
  return `×${digits(Math.abs(after / before))}`;
}

/** `1 module`, `65 modules`. */
export function counted(number: number, noun: string): string {
  return `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;
}
