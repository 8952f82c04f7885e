/** Shapes, words and order of a roofline's marks. */

import { exact, quantity, seconds } from "./numbers";
import type { PlacedPoint } from "./roofline-view";
import { STAGES } from "./style";
import { plain } from "./text";
import type { Note } from "./tooltip";

/** So many points of each stage are labelled, where there is room. */
const LABELLED = 7;

/** Unit shapes of the ways in which attention is computed. */
export const SHAPES: Record<string, { path: string; name: string }> = {
  sdpa: { path: "M0,-1.3L1.3,0L0,1.3L-1.3,0Z", name: "flash attention (sdpa)" },
  eager: { path: "M-0.95,-0.95H0.95V0.95H-0.95Z", name: "eager attention" },
  "": { path: "M-1,0A1,1 0 1,0 1,0A1,1 0 1,0 -1,0Z", name: "other modules" },
};

/** The longest of each stage, in turn, so that no stage takes all the room. */
export function heaviest(points: readonly PlacedPoint[]): PlacedPoint[] {
  const ranks = new Map<string, number>();
  return points
    .map((point) => {
      const rank = ranks.get(stageOf(point.point.stage)) ?? 0;
      ranks.set(stageOf(point.point.stage), rank + 1);
      return { point, rank };
    })
    .filter(({ rank }) => rank < LABELLED)
    .sort((a, b) => a.rank - b.rank)
    .map(({ point }) => point);
}

/** The shape's name for a way of computing attention. */
export function shapeOf(kind: string | undefined): string {
  return kind === "eager" || kind === "sdpa" ? kind : "";
}

/** One of the known stages. */
export function stageOf(stage: string): string {
  return (STAGES as readonly string[]).includes(stage) ? stage : "other";
}

/** All that is known of a point, exactly. */
export function noteOf({ point, intensity, rate }: PlacedPoint): Note {
  const rows: [string, string][] = [
    ["stage", plain(point.stage)],
    ["time", seconds(point.seconds)],
    ["FLOPs", `${quantity(point.flops, "FLOP")} (${exact(point.flops)})`],
    ["bytes", `${quantity(point.bytes, "B")} (${exact(point.bytes)})`],
    ["intensity", quantity(intensity, "FLOP/B")],
    ["rate", quantity(rate, "FLOP/s")],
  ];
  if (point.bound) rows.push(["bound by", plain(point.bound)]);
  if (point.kind) rows.push(["attention", plain(point.kind)]);
  return { title: point.label, rows };
}

/** A power of ten at an axis. */
export function power(value: number): string {
  return value < 0.001 ? value.toExponential(0) : value < 1 ? String(value) : quantity(value, "").replace(/\.0+(?= |$)/, "");
}
