/**
 * What the page gives the drawings, and what it can ask of them.
 *
 * FLOPs are floating-point operations (a multiply-add is 2), bytes are bytes, seconds are seconds. All ids and
 * labels are plain text, wherever they come from; a drawing sets them as text and never as markup.
 */

/** One drawing: its element fits itself to the container that it is put into. */
export interface Drawing<Data> {
  element: HTMLElement;
  update(data: Data): void;
  /** Marks what belongs to an id; null marks nothing. Calls no event. */
  select(id: string | null): void;
  hover(id: string | null): void;
  destroy(): void;
  /** Standalone SVG text for export, styles included, in the colours of the page as it is now. */
  svg(): string;
}

export interface Events {
  onSelect(id: string | null): void;
  onHover(id: string | null): void;
}

/** A module in one stage. A kind (`eager` or `sdpa`) says how attention was computed, where that matters. */
export interface RooflinePoint {
  id: string;
  stage: string;
  label: string;
  flops: number;
  bytes: number;
  seconds: number;
  bound: string;
  kind?: string;
}

export interface RooflineData {
  points: RooflinePoint[];
  roofs: { label: string; flopsPerSecond: number }[];
  bytesPerSecond: number;
}

/** A module in a tree: `own` without its callees, `total` with them. */
export interface IcicleNode {
  id: string;
  parent: string | null;
  label: string;
  stage: string;
  own: number;
  total: number;
}

export interface IcicleData {
  nodes: IcicleNode[];
  measure: string;
  unit: "flops" | "bytes" | "seconds" | "count";
}

/**
 * Live bytes after each operation of a run, in order; `peak` is an index into the points. A holder without a module
 * was made before the modules ran; its stage is the one in which its module ran first.
 */
export interface TimelineData {
  points: { bytes: number; label: string; module: string; stage: string }[];
  peak: number;
  holders: { module: string; bytes: number; what: string; stage?: string }[];
  note?: string;
}

/** A family of equal modules; `repeat` is `for 12`, `parfor 64` or nothing; `parent` is the family that calls it first. */
export interface GraphNode {
  id: string;
  className: string;
  label: string;
  repeat: string;
  stage: string;
  configuration: Record<string, unknown>;
  inputs: string[];
  outputs: string[];
  parent: string | null;
}

/** `kind` is `call` (caller to callee) or `data` (one call's output into another's input under one caller). */
export interface GraphEdge {
  from: string;
  to: string;
  label: string;
  kind: string;
  count: number;
}

export interface GraphData {
  nodes: GraphNode[];
  edges: GraphEdge[];
  note?: string;
}
