/** Where everything of a roofline goes: logarithmic axes, roofs with their ridges, and points. */

import { scaleLog } from "d3-scale";

import { amount } from "./numbers";
import type { RooflineData, RooflinePoint } from "./types";

/** Orders of magnitude that an axis shows at most; what lies beyond is drawn on its edge. */
const MOST_DECADES = 9;

const SMALLEST = 3.5;
const LARGEST = 20;

export interface Axis {
  /** Pixels of a value; values beyond the ends are on them. */
  at(value: number): number;
  low: number;
  high: number;
  /** Powers of ten. */
  ticks: number[];
}

export interface Roof {
  /** Dtypes with this peak, after each other. */
  label: string;
  rate: number;
  /** FLOPs a byte at which memory and this roof meet; 0 where the device tells no bandwidth. */
  ridge: number;
}

export interface PlacedPoint {
  /** Unlike any other point's, and the same after an update. */
  key: string;
  point: RooflinePoint;
  intensity: number;
  rate: number;
  x: number;
  y: number;
  /** The mark's area is proportional to time. */
  radius: number;
}

export interface Plot {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

export interface RooflineView {
  plot: Plot;
  x: Axis;
  y: Axis;
  /** The highest first. */
  roofs: Roof[];
  /** Those that take the most time first. */
  points: PlacedPoint[];
  /** Points without FLOPs, bytes or time: they have no place on logarithmic axes. */
  unplaced: number;
}

/** Equal roofs are one, the highest first; a roof that is no positive number is none. */
export function roofsOf(data: RooflineData): Roof[] {
  const byRate = new Map<number, string[]>();
  for (const roof of data.roofs) {
    const rate = amount(roof.flopsPerSecond);
    if (rate > 0) byRate.set(rate, [...(byRate.get(rate) ?? []), roof.label]);
  }
  const bandwidth = amount(data.bytesPerSecond);
  return [...byRate]
    .sort(([a], [b]) => b - a)
    .map(([rate, labels]) => ({ label: [...new Set(labels)].join(", "), rate, ridge: bandwidth > 0 ? rate / bandwidth : 0 }));
}

export function rooflineView(data: RooflineData, plot: Plot): RooflineView {
  const roofs = roofsOf(data);
  const times = new Map<string, number>();
  const measured = data.points
    .map((point, index) => ({
      key: keyOf(point, times),
      index,
      point,
      intensity: amount(point.flops) / amount(point.bytes),
      rate: amount(point.flops) / amount(point.seconds),
    }))
    .filter(({ intensity, rate }) => amount(intensity) > 0 && amount(rate) > 0)
    .sort((a, b) => b.point.seconds - a.point.seconds || a.index - b.index);
  const ridges = roofs.map((roof) => roof.ridge).filter((ridge) => ridge > 0);
  const across = [...measured.map((point) => point.intensity), ...ridges.flatMap((ridge) => [ridge / 10, ridge * 5])];
  const up = [...measured.map((point) => point.rate), ...roofs.map((roof) => roof.rate * 1.5)];
  // What is nearly idle would squeeze the rest together, so the ends far from the roofs are given up first.
  const x = axis(across, plot.left, plot.right);
  const y = axis(up, plot.bottom, plot.top);
  const longest = measured[0]?.point.seconds ?? 0;
  const points = measured.map(({ key, point, intensity, rate }) => ({
    key,
    point,
    intensity,
    rate,
    x: x.at(intensity),
    y: y.at(rate),
    radius: Math.max(SMALLEST, LARGEST * Math.sqrt(point.seconds / longest)),
  }));
  return { plot, x, y, roofs, points, unplaced: data.points.length - points.length };
}

/** What a point is called from one update to the next; a second one of the same name and stage is another. */
function keyOf(point: RooflinePoint, times: Map<string, number>): string {
  const name = [point.id, point.stage, point.kind ?? ""].join("\n");
  const time = times.get(name) ?? 0;
  times.set(name, time + 1);
  return `${name}\n${time}`;
}

function axis(values: number[], from: number, to: number): Axis {
  const powers = values.map((value) => Math.log10(value));
  const highest = powers.length ? Math.ceil(powers.reduce((a, b) => Math.max(a, b))) : 1;
  const lowest = powers.length ? Math.floor(powers.reduce((a, b) => Math.min(a, b))) : 0;
  const most = highest === lowest ? lowest + 1 : highest;
  const least = Math.max(lowest, most - MOST_DECADES);
  const ticks = Array.from({ length: most - least + 1 }, (_, step) => Number(`1e${least + step}`));
  const [low, high] = [ticks[0]!, ticks.at(-1)!];
  const scale = scaleLog().domain([low, high]).range([from, to]).clamp(true);
  return {
    at: (value) => scale(value),
    low,
    high,
    ticks,
  };
}
