/** The page's data as Python wrote it; see src/modelmeter/render/page/document.py and planning/live. */

import type { GraphData, TimelineData } from "../drawings/types";

/** A module, or a family of equal ones. `parent` is a place in the list of modules. */
export interface ModuleRow {
  id: string;
  name: string;
  class: string;
  qualified: string;
  stage: string;
  repeat: string;
  parent: number | null;
  config: Record<string, unknown>;
  inputs?: string[];
  outputs?: string[];
  shape?: string;
}

/** Single modules as columns; `parent` is a place in them or -1, `family` a place in the modules. */
export interface Instances {
  id: string[];
  family: number[];
  parent: number[];
  calls: number[];
  flops: (number | null)[];
  parameters: (number | null)[];
  peak: (number | null)[];
}

/** Expressions as letters and distances; see planning/live/graph.py. */
export interface CompactGraph {
  args: number[];
  keys: string[];
  names: string[];
  numbers: number[];
  operations: Record<string, [string, number]>;
  ops: string;
  roots: number[][];
}

export interface Device {
  id: string;
  name: string;
  keys: Record<string, number>;
  lacks: Record<string, string>;
}

export interface Variant {
  attention: string;
  attention_label: string;
  dtype: string;
  dtype_label: string;
  /** What a device must have: peaks by data type, and a connection to others where layers are shared. */
  needs: string[];
  vision_attention: string;
  decoder_attention: string;
}

export interface NumberLever {
  key: string;
  min: number;
  max: number;
  reason: string;
  value?: number;
}

export interface ChoiceLever {
  reason: string;
  value: string;
}

export interface PageLever {
  reason: string;
  columns: string;
  rows: string;
  grid: [number, number];
  grids: { crops: [number, number][]; whole: [number, number][] };
  max: number;
  size: [number, number] | null;
  text_tokens: number;
}

export interface ModeLever {
  reason: string;
  value?: string;
  choices?: Record<string, Record<string, number>>;
}

export interface Levers {
  attention: { reason: string };
  batch: NumberLever;
  devices: ChoiceLever;
  dtype: { reason: string };
  decode_steps: NumberLever;
  pages: NumberLever;
  text_tokens: NumberLever;
  execution: ChoiceLever;
  device: ChoiceLever;
  page: PageLever;
  mode: ModeLever;
}

export interface Live {
  bounds: string[];
  categories: Record<string, string>;
  devices: Device[];
  graph: CompactGraph;
  keys: Record<string, number>;
  levers: Levers;
  stages: string[];
  variants: Variant[];
}

/** A formula in one part of the run: with numbers as LaTeX, what a call and all calls come to as text. */
export interface FilledFormula {
  calls: string;
  label: string;
  numbers: string;
  total: string;
  value: string;
}

/** Formulas of a module: LaTeX in letters, and the letters with their meanings and values. */
export interface Formula {
  formulas: { letters: string; parts: FilledFormula[]; title: string }[];
  source: string;
  symbols: [letter: string, meaning: string, values: string[]][];
  text: string;
}

export interface PageOfReport {
  grid: [number, number];
  image_tokens: number;
  width?: number;
  height?: number;
}

export interface AboutReport {
  id: string;
  model_id: string;
  variant: string;
  notes: string;
  measured_s: number | null;
  device: { id: string; name: string };
  profile: { id: string; description: string };
  described: { pages?: PageOfReport[]; seq_len?: number; text_tokens?: number };
  scenario: Record<string, unknown>;
}

export interface AboutGraph {
  class: string;
  modules: number;
  forwards: string[];
  lower_bound: boolean;
  disagreements: string[];
  scenario: Record<string, unknown>;
  unknown_operators: Record<string, number>;
  assumptions: { module: string; operator: string; rule: string; calls: number }[];
}

export interface SubjectData {
  title: string;
  modules: ModuleRow[];
  figures: { columns: Record<string, (number | null)[]>; run: Record<string, number> };
  report?: AboutReport;
  callgraph?: AboutGraph;
  live?: Live;
}

export interface PageData extends SubjectData {
  why_not_live: string;
  formulas?: Record<string, Formula>;
  graph?: GraphData;
  timeline?: TimelineData | null;
  instances?: Partial<Instances>;
  other?: SubjectData;
  tool: { name: string; version: string };
}

export const STAGES = ["vision", "projector", "prefill", "decode", "other"] as const;
export const BOUNDS = ["compute", "memory", "launch", "network"] as const;

/** Reads what Python put into the page; null for the template itself. */
export function readData(document: Document): PageData | null {
  return JSON.parse(document.getElementById("page-data")?.textContent ?? "null") as PageData | null;
}
