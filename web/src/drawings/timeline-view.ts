/** Where everything of a timeline goes: the series on few pixels, its stages, and who holds the peak. */

import { scaleLinear } from "d3-scale";

import { amount } from "./numbers";
import { kept, runs, spread, type Run } from "./series";
import type { TimelineData } from "./types";

/** So many holders are told apart, those with at least such a part of the peak; the rest is one. */
const MOST_HOLDERS = 12;
const LEAST_SHARE = 0.005;

const LABEL_APART = 28;

export interface Held {
  module: string;
  what: string;
  bytes: number;
  /** In which its module ran first; `other` where that is not known. */
  stage: string;
  top: number;
  bottom: number;
  /** Baseline of its label. */
  label: number;
}

export interface TimelineView {
  left: number;
  right: number;
  top: number;
  bottom: number;
  /** Bytes at each place, as far as they are numbers. */
  bytes: number[];
  /** Index of the peak; -1 where there are no points. */
  peak: number;
  x(index: number): number;
  y(bytes: number): number;
  /** The index that is drawn nearest to a pixel. */
  nearest(pixel: number): number;
  bytesTicks: number[];
  indexTicks: number[];
  /** Indices that are drawn. */
  drawn: number[];
  /** Runs of one stage over `drawn`. */
  stages: Run<string>[];
  /** The largest first; what nobody is named for is the last one, without a module. */
  holders: Held[];
}

export function timelineView(data: TimelineData, left: number, right: number, top: number, bottom: number): TimelineView {
  const bytes = data.points.map((point) => amount(point.bytes));
  const peak = peakOf(bytes, data.peak);
  const most = Math.max(peak < 0 ? 0 : bytes[peak]!, 1);
  const last = Math.max(1, bytes.length - 1);
  const across = scaleLinear().domain([0, last]).range([left, right]);
  const up = scaleLinear().domain([0, most]).nice(6).range([bottom, top]);
  const drawn = kept(bytes, Math.max(1, Math.floor(right - left)), [peak]);
  return {
    left,
    right,
    top,
    bottom,
    bytes,
    peak,
    x: (index) => across(index),
    y: (value) => up(value),
    nearest: (pixel) => Math.max(0, Math.min(bytes.length - 1, Math.round(across.invert(pixel)))),
    bytesTicks: up.ticks(6),
    indexTicks: across.ticks(Math.max(2, Math.floor((right - left) / 110))).filter(Number.isInteger),
    drawn,
    stages: runs(drawn.map((index) => data.points[index]!.stage)),
    holders: heldAt(data, peak < 0 ? 0 : bytes[peak]!, up, top, bottom),
  };
}

/** The index that the data names, if it is the largest there is; otherwise the first of the largest. */
function peakOf(bytes: readonly number[], named: number): number {
  let most = -1;
  bytes.forEach((value, index) => {
    if (most < 0 || value > bytes[most]!) most = index;
  });
  return most >= 0 && bytes[named] === bytes[most] ? named : most;
}

function heldAt(data: TimelineData, peak: number, up: (bytes: number) => number, top: number, bottom: number): Held[] {
  const all = data.holders
    .map((holder) => ({ ...holder, bytes: amount(holder.bytes) }))
    .filter((holder) => holder.bytes > 0)
    .sort((a, b) => b.bytes - a.bytes);
  const shown: (typeof all)[number][] = all.slice(0, MOST_HOLDERS).filter((holder) => holder.bytes >= peak * LEAST_SHARE);
  const named = shown.reduce((sum, holder) => sum + holder.bytes, 0);
  const rest = Math.max(0, peak - named);
  const others = all.length - shown.length;
  // Beyond rounding of large numbers, what is left is somebody's.
  if (rest > peak * 1e-12) shown.push({ module: "", what: others ? `${others.toLocaleString("en-US")} smaller` : "not named", bytes: rest });
  let at = 0;
  const places = shown.map((holder) => {
    const from = Math.min(at, peak);
    at = Math.min(peak, at + holder.bytes);
    return { ...holder, stage: holder.stage ?? "other", bottom: up(from), top: up(at), label: 0 };
  });
  // Labels from the top of the bar down: the last holder is the highest.
  const downwards = [...places].reverse();
  const apart = Math.min(LABEL_APART, (bottom - top) / Math.max(1, places.length));
  const heights = spread(downwards.map((held) => (held.top + held.bottom) / 2 + 4), apart, top + 10, bottom - 14);
  downwards.forEach((held, index) => (held.label = heights[index]!));
  return places;
}
