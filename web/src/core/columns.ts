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

function measured(name: string, title: string, unit: Unit, tip: string, isOfRun = false): Column {
  return {
    name,
    title,
    tip,
    unit,
    bar: true,
    number: (figures, place, stage) => figures.of(place, isOfRun ? "all" : stage, name),
  };
}

export const COLUMNS: readonly Column[] = [
  { name: "class", title: "Class", tip: "The module's class", text: (row) => row.class },
  { name: "repeat", title: "Repeats", tip: "for: one after another; parfor: side by side", text: (row) => row.repeat },
  { ...measured("calls", "Calls", "count", "Forward calls of all instances"), bar: false },
  measured("estimate", "Time", "seconds", "Estimated, with everything below"),
  { ...measured("share", "Share", "share", "Of the time of the run, or of the stage shown"), bar: false },
  measured("own_estimate", "Own time", "seconds", "Estimated, without what is below"),
  {
    name: "bound",
    title: "Bound",
    tip: "What most of the time is spent on",
    text: (_row, figures, place, stage) => boundOf(figures, place, stage),
  },
  measured("flops", "FLOPs", "flops", "Matrix and vector operations, with everything below; a multiply-add is 2"),
  measured("bytes", "Bytes", "bytes", "Moved: read and written, with everything below"),
  measured("launches", "Launches", "count", "Kernels that are started, with everything below"),
  measured("peak", "Peak", "bytes", "The most live bytes while the module runs, weights not counted", true),
  measured("cache", "KV cache", "bytes", "Held at the end", true),
  measured("weights", "Weights", "bytes", "Resident weights, with everything below", true),
  { ...measured("parameters", "Params", "count", "Parameters, with everything below", true), bar: false },
  { name: "shape", title: "Output shape", tip: "The first output's shape, from the call graph", text: (row) => row.shape ?? "" },
];

export const DEFAULT_COLUMNS = ["repeat", "calls", "estimate", "bound", "flops", "bytes", "peak", "parameters", "shape"];

/** `compute`, `memory`, `launch` or a dash. */
export function boundOf(figures: Figures, place: number, stage: string): string {
  const number = figures.of(place, stage, "bound");
  return number === undefined ? NONE : (BOUNDS[number] ?? NONE);
}

export function textOf(column: Column, row: ModuleRow, figures: Figures, place: number, stage: string): string {
  if (column.text) return column.text(row, figures, place, stage);
  return cellText(column, column.number!(figures, place, stage));
}

/** A number as a cell has it: of FLOPs the column's title says what they are. */
export function cellText(column: Column, value: number | undefined): string {
  return shown(value, column.unit === "flops" ? "count" : column.unit!);
}
