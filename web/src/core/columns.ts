/** Columns of the module table: what each shows, in which unit, and what is told of it. */

import { BOUNDS, type ModuleRow } from "./data";
import type { Figures } from "./figures";
import { NONE, shown, type Unit } from "./format";

export interface Column {
  name: string;
  title: string;
  tip: string;
  unit?: Unit;
  /** Numbers have bars behind them, in shares of the largest. */
  bar?: boolean;
  number?(figures: Figures, place: number, stage: string): number | undefined;
  text?(row: ModuleRow, figures: Figures, place: number, stage: string): string;
}

function measured(name: string, title: string, unit: Unit, tip: string, own = "", wholeRun = false): Column {
  return {
    name,
    title,
    tip,
    unit,
    bar: true,
    number: (figures, place, stage) => figures.of(place, wholeRun ? "all" : stage, own || name),
  };
}

export const COLUMNS: readonly Column[] = [
  { name: "class", title: "Class", tip: "The module's class", text: (row) => row.class },
  { name: "repeat", title: "Repeats", tip: "for: one after another; parfor: side by side", text: (row) => row.repeat },
  { ...measured("calls", "Calls", "count", "Forward calls of all instances"), bar: false },
  { name: "shape", title: "Output shape", tip: "The first output's shape, from the call graph", text: (row) => row.shape ?? "" },
  { ...measured("parameters", "Parameters", "count", "With everything below", "", true), bar: false },
  measured("flops", "FLOPs", "flops", "Matrix and vector operations, with everything below; a multiply-add is 2"),
  measured("bytes", "Bytes moved", "bytes", "Read and written, with everything below"),
  { ...measured("launches", "Launches", "count", "Kernels that are started, with everything below") },
  measured("weights", "Weights", "bytes", "Resident weights, with everything below", "", true),
  measured("peak", "Peak memory", "bytes", "The most live bytes while the module runs, weights not counted", "", true),
  measured("cache", "KV cache", "bytes", "Held at the end", "", true),
  measured("estimate", "Time", "seconds", "Estimated, with everything below"),
  measured("own_estimate", "Own time", "seconds", "Estimated, without what is below"),
  { ...measured("share", "Share", "share", "Of the time of the run, or of the stage shown"), bar: false },
  {
    name: "bound",
    title: "Bound by",
    tip: "What most of the time is spent on",
    text: (_row, figures, place, stage) => boundOf(figures, place, stage),
  },
];

export const DEFAULT_COLUMNS = ["repeat", "calls", "shape", "parameters", "flops", "bytes", "peak", "estimate", "bound"];

/** `compute`, `memory`, `launch` or a dash. */
export function boundOf(figures: Figures, place: number, stage: string): string {
  const number = figures.of(place, stage, "bound");
  return number === undefined ? NONE : (BOUNDS[number] ?? NONE);
}

export function textOf(column: Column, row: ModuleRow, figures: Figures, place: number, stage: string): string {
  if (column.text) return column.text(row, figures, place, stage);
  return shown(column.number!(figures, place, stage), column.unit!);
}
