/**
 * How the drawings look. Colours are the page's custom properties; a page without them gets those below, in which
 * stages keep apart for colour-blind readers (Okabe and Ito, Color Universal Design, 2008).
 */

import { FONT } from "./text";

export const STAGES = ["vision", "projector", "prefill", "decode", "other"] as const;

/** The class that gives an element its stage's colour. */
export function stageClass(stage: string): string {
  return `mm-stage-${(STAGES as readonly string[]).includes(stage) ? stage : "other"}`;
}

const LIGHT = {
  "fg": "#1c2127",
  "muted": "#5d6773",
  "line": "#d4dae1",
  "panel": "#ffffff",
  "accent": "#b3261e",
  "stage-vision": "#0072b2",
  "stage-projector": "#cc79a7",
  "stage-prefill": "#e69f00",
  "stage-decode": "#009e73",
  "stage-other": "#7f8893",
};

const DARK: Record<string, string> = {
  ...LIGHT,
  "fg": "#e6eaef",
  "muted": "#a0abb8",
  "line": "#3a434e",
  "panel": "#161b21",
  "accent": "#ff8a75",
  "stage-vision": "#56b4e9",
  "stage-other": "#98a2ae",
};

/** Names of the colours, without `--`. */
export const COLOURS = Object.keys(LIGHT);

function properties(colours: Record<string, string>): string {
  return Object.entries(colours)
    .map(([name, value]) => `--mm-${name}: var(--${name}, ${value});`)
    .join(" ");
}

/** What the marks look like, on the page as in an exported file. */
export const MARKS_CSS = `
.mm-svg { font-family: ${FONT}; font-size: 12px; }
.mm-svg text { fill: var(--mm-fg); }
.mm-svg .mm-muted { fill: var(--mm-muted); }
.mm-svg .mm-small { font-size: 11px; }
.mm-svg .mm-strong { font-weight: 600; }
.mm-svg .mm-halo { paint-order: stroke; stroke: var(--mm-panel); stroke-width: 3px; stroke-linejoin: round; }
.mm-svg .mm-grid { stroke: var(--mm-line); stroke-width: 1; fill: none; }
.mm-svg .mm-rule { stroke: var(--mm-muted); stroke-width: 1; fill: none; }
.mm-svg .mm-back { fill: var(--mm-panel); }
.mm-stage-vision { --mm-stage: var(--mm-stage-vision); }
.mm-stage-projector { --mm-stage: var(--mm-stage-projector); }
.mm-stage-prefill { --mm-stage: var(--mm-stage-prefill); }
.mm-stage-decode { --mm-stage: var(--mm-stage-decode); }
.mm-stage-other { --mm-stage: var(--mm-stage-other); }
.mm-svg .mm-mark { cursor: pointer; outline: none; }

.mm-roofline .mm-roof { fill: none; stroke: var(--mm-muted); stroke-width: 1.25; }
.mm-roofline .mm-roof-first { stroke: var(--mm-fg); stroke-width: 2; }
.mm-roofline .mm-ridge { fill: var(--mm-panel); stroke: var(--mm-fg); stroke-width: 1.5; }
.mm-roofline .mm-drop { stroke: var(--mm-muted); stroke-width: 1; stroke-dasharray: 2 4; fill: none; }
.mm-roofline .mm-shape { fill: var(--mm-stage); fill-opacity: 0.5; stroke: var(--mm-stage); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.mm-roofline .mm-dimmed { opacity: 0.13; }
.mm-roofline .mm-mark.is-hovered .mm-shape, .mm-roofline .mm-mark:focus-visible .mm-shape { fill-opacity: 0.85; stroke: var(--mm-fg); }
.mm-roofline .mm-mark.is-selected .mm-shape { fill-opacity: 0.85; stroke: var(--mm-accent); stroke-width: 3; }
.mm-roofline .mm-leader { stroke: var(--mm-muted); stroke-width: 0.75; fill: none; }

.mm-icicle .mm-cell { fill: var(--mm-stage); fill-opacity: 0.26; stroke: var(--mm-panel); stroke-width: 1; }
.mm-icicle .mm-edge { fill: var(--mm-stage); }
.mm-icicle .mm-above .mm-cell { fill-opacity: 0.12; }
.mm-icicle .mm-own { fill: var(--mm-stage); fill-opacity: 0.09; stroke: var(--mm-stage); stroke-opacity: 0.55; stroke-dasharray: 2 3; }
.mm-icicle .mm-mark.is-hovered .mm-cell, .mm-icicle .mm-mark:focus-visible .mm-cell { fill-opacity: 0.5; stroke: var(--mm-fg); }
.mm-icicle .mm-mark.is-selected .mm-cell { fill-opacity: 0.5; stroke: var(--mm-accent); stroke-width: 2.5; }

.mm-timeline .mm-area { fill: var(--mm-stage); fill-opacity: 0.32; }
.mm-timeline .mm-curve { fill: none; stroke: var(--mm-stage); stroke-width: 1.25; stroke-linejoin: round; }
.mm-timeline .mm-band { fill: var(--mm-stage); fill-opacity: 0.85; }
.mm-timeline .mm-peak { stroke: var(--mm-fg); stroke-width: 1.25; stroke-dasharray: 4 3; fill: none; }
.mm-timeline .mm-peak-dot { fill: var(--mm-fg); stroke: var(--mm-panel); stroke-width: 1.5; }
.mm-timeline .mm-cross { stroke: var(--mm-fg); stroke-width: 1; fill: none; }
.mm-timeline .mm-cross-dot { fill: var(--mm-fg); }
.mm-timeline .mm-chosen { fill: var(--mm-accent); fill-opacity: 0.75; }
.mm-timeline .mm-hovering { fill: var(--mm-fg); fill-opacity: 0.35; }
.mm-timeline .mm-holder { fill: var(--mm-stage); stroke: var(--mm-panel); stroke-width: 1; }
.mm-timeline .mm-mark.is-hovered .mm-holder, .mm-timeline .mm-mark:focus-visible .mm-holder { stroke: var(--mm-fg); stroke-width: 2; }
.mm-timeline .mm-mark.is-selected .mm-holder { stroke: var(--mm-accent); stroke-width: 2.5; }
.mm-timeline .mm-plot { fill: transparent; outline: none; cursor: crosshair; }
.mm-timeline .mm-plot:focus-visible { stroke: var(--mm-accent); stroke-width: 1.5; }

.mm-graph .mm-card { fill: var(--mm-panel); stroke: var(--mm-stage); stroke-width: 1.1; }
.mm-graph .mm-tint { fill: var(--mm-stage); fill-opacity: 0.17; stroke: none; pointer-events: none; }
.mm-graph .mm-cluster > .mm-tint { fill-opacity: 0.07; }
.mm-graph .mm-badge { fill: var(--mm-stage); fill-opacity: 0.3; }
.mm-graph .mm-flow { fill: none; stroke: var(--mm-muted); stroke-width: 1.1; }
.mm-graph .mm-flow-head { fill: var(--mm-muted); stroke: none; }
.mm-graph .mm-call { fill: none; stroke: var(--mm-accent); stroke-width: 1.1; stroke-dasharray: 5 3; }
.mm-graph .mm-call-head { fill: var(--mm-accent); stroke: none; }
.mm-graph .mm-flow.is-lit { stroke: var(--mm-fg); stroke-width: 2; }
.mm-graph .mm-toggle { cursor: pointer; }
.mm-graph .mm-toggle rect { fill: var(--mm-panel); fill-opacity: 0.75; stroke: var(--mm-stage); stroke-width: 0.9; }
.mm-graph .mm-toggle path { stroke: var(--mm-fg); stroke-width: 1.4; fill: none; }
.mm-graph .mm-mark.is-hovered > .mm-card, .mm-graph .mm-mark:focus-visible > .mm-card { stroke: var(--mm-fg); stroke-width: 2; }
.mm-graph .mm-mark.is-selected > .mm-card { stroke: var(--mm-accent); stroke-width: 2.6; }
`;

const FRAME_CSS = `
.mm-drawing { ${properties(LIGHT)} position: relative; display: flex; flex-direction: column; gap: 6px; height: 100%; min-height: 26rem; color: var(--mm-fg); background: var(--mm-panel); font: 13px/1.4 ${FONT}; }
@media (prefers-color-scheme: dark) { .mm-drawing { ${properties(DARK)} } }
.mm-bar { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 8px; min-height: 26px; }
.mm-spring { flex: 1; }
.mm-bar .mm-bar { min-height: 0; }
.mm-said { color: var(--mm-muted); font-size: 12px; }
.mm-button { font: inherit; font-size: 12px; color: var(--mm-fg); background: var(--mm-panel); border: 1px solid var(--mm-line); border-radius: 5px; padding: 1px 8px; min-height: 24px; min-width: 24px; cursor: pointer; max-width: 22em; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.mm-button:hover { border-color: var(--mm-muted); }
.mm-button:focus-visible { outline: 2px solid var(--mm-accent); outline-offset: 1px; }
.mm-button[aria-pressed="false"] { color: var(--mm-muted); text-decoration: line-through; }
.mm-button:disabled { cursor: default; opacity: 0.5; }
.mm-swatch { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; background: var(--mm-stage); }
.mm-key { display: inline-flex; align-items: center; gap: 5px; font-size: 12px; color: var(--mm-muted); }
.mm-crumb-arrow { color: var(--mm-muted); }
.mm-canvas { position: relative; flex: 1; min-height: 0; overflow: hidden; }
.mm-canvas.mm-scrolls { overflow-y: auto; scrollbar-gutter: stable; }
.mm-svg { position: absolute; inset: 0; display: block; width: 100%; height: 100%; user-select: none; -webkit-user-select: none; }
.mm-scrolls > .mm-svg { position: static; height: auto; }
.mm-graph .mm-svg { cursor: grab; touch-action: none; }
.mm-graph .mm-svg:active { cursor: grabbing; }
.mm-tip { position: absolute; z-index: 3; left: 0; top: 0; max-width: min(34rem, 92%); padding: 8px 10px; border: 1px solid var(--mm-line); border-radius: 7px; background: var(--mm-panel); color: var(--mm-fg); box-shadow: 0 4px 18px rgb(0 0 0 / 0.22); font-size: 12px; line-height: 1.45; pointer-events: none; overflow-wrap: anywhere; }
.mm-tip[hidden] { display: none; }
.mm-tip-title { font-weight: 600; }
.mm-tip dl { display: grid; grid-template-columns: auto 1fr; gap: 0 10px; margin: 3px 0 0; }
.mm-tip dt { color: var(--mm-muted); white-space: nowrap; }
.mm-tip dd { margin: 0; font-variant-numeric: tabular-nums; }
@media (prefers-reduced-motion: no-preference) {
  .mm-roofline .mm-mark, .mm-roofline .mm-shape { transition: transform 0.45s ease, opacity 0.2s ease; }
  .mm-icicle .mm-mark, .mm-icicle .mm-label { transition: transform 0.28s ease; }
  .mm-icicle .mm-cell { transition: width 0.28s ease; }
}
@media (forced-colors: active) { .mm-svg { forced-color-adjust: none; } }
`;

const styled = new WeakSet<Document>();

/** Gives a document the style of the drawings, once. A constructed sheet needs no exception from a content policy. */
export function install(page: Document): void {
  if (styled.has(page)) return;
  styled.add(page);
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(FRAME_CSS + MARKS_CSS);
  page.adoptedStyleSheets = [...page.adoptedStyleSheets, sheet];
}

/**
 * The style of the marks with its colours written out, for files that are opened outside of the page.
 *
 * An element that has its stage's colour carries the stage's class itself, so that a rule that asks for the
 * colour can become one rule for each stage.
 */
export function standalone(colour: (name: string) => string): string {
  const rules = MARKS_CSS.trim()
    .split("\n")
    .filter((rule) => rule && !rule.startsWith(".mm-stage-"))
    .flatMap((rule) => (rule.includes("var(--mm-stage)") ? STAGES.map((stage) => ofStage(rule, stage)) : [rule]));
  let css = rules.join("\n");
  for (const name of COLOURS) css = css.replaceAll(`var(--mm-${name})`, colour(name));
  return css;
}

function ofStage(rule: string, stage: string): string {
  const body = rule.indexOf("{");
  const selectors = rule.slice(0, body).split(",").map((selector) => `${selector.trim()}.mm-stage-${stage}`);
  return `${selectors.join(", ")} ${rule.slice(body)}`.replaceAll("var(--mm-stage)", `var(--mm-stage-${stage})`);
}
