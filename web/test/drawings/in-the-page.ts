/** What the browser test runs inside the page: each drawing with hostile names, the keyboard, and export. */

import axe from "axe-core";

import { createGraph } from "../../src/drawings/graph";
import { createIcicle } from "../../src/drawings/icicle";
import { createRoofline } from "../../src/drawings/roofline";
import { createTimeline } from "../../src/drawings/timeline";
import type { Drawing, Events } from "../../src/drawings/types";

const EVIL = `<img src=x onerror="window.hit=1">&"'\u0000]]>`;

const DATA = {
  roofline: {
    points: [
      { id: EVIL, stage: "vision", label: EVIL, flops: 1e12, bytes: 1e10, seconds: 0.01, bound: "compute" },
      { id: "b", stage: "decode", label: "b", flops: 1e18, bytes: 1e18, seconds: 3, bound: "memory", kind: "eager" },
      { id: "c", stage: "decode", label: "c", flops: 0, bytes: 1, seconds: 1, bound: "", kind: "sdpa" },
    ],
    roofs: [{ label: EVIL, flopsPerSecond: 989e12 }],
    bytesPerSecond: 3.35e12,
  },
  icicle: {
    nodes: [
      { id: "root", parent: null, label: "root", stage: "prefill", own: 10, total: 1e18 },
      { id: EVIL, parent: "root", label: EVIL, stage: "vision", own: 3e17, total: 6e17 },
      { id: "b", parent: EVIL, label: "b", stage: "vision", own: 3e17, total: 3e17 },
      { id: "z", parent: "root", label: "z", stage: EVIL, own: Number.NaN, total: 0 },
    ],
    measure: EVIL,
    unit: "flops" as const,
  },
  timeline: {
    points: Array.from({ length: 5000 }, (_, index) => ({ bytes: index === 3210 ? 9e9 : 1e9 + index, label: EVIL, module: `layers.${index % 5}`, stage: "prefill" })),
    peak: 3210,
    holders: [{ module: EVIL, bytes: 5e9, what: EVIL }, { module: "layers.[0-4]", bytes: 3e9, what: "mm" }],
    note: EVIL,
  },
  graph: {
    nodes: [
      { id: "root", className: "Root", label: "root", repeat: "", stage: "prefill", configuration: {}, inputs: [], outputs: [], parent: null },
      { id: EVIL, className: EVIL, label: EVIL, repeat: "for 12", stage: "vision", configuration: { [EVIL]: EVIL }, inputs: [EVIL], outputs: [EVIL], parent: "root" },
      { id: "b", className: "B", label: "b", repeat: "parfor 64", stage: "decode", configuration: { eps: 1e-6, kernel_size: [3, 3] }, inputs: [], outputs: [], parent: "root" },
      { id: "c", className: "C", label: "c", repeat: "", stage: "decode", configuration: {}, inputs: [], outputs: [], parent: "b" },
    ],
    edges: [
      { from: EVIL, to: "b", label: EVIL, kind: "data", count: 3 },
      { from: "root", to: "c", label: "for 2", kind: "call", count: 2 },
    ],
    note: EVIL,
  },
};

const MAKE = { roofline: createRoofline, icicle: createIcicle, timeline: createTimeline, graph: createGraph } as const;

function press(key: string): void {
  (document.activeElement ?? document.body).dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
}

/** Two frames, after which sizes have been seen and drawn. */
function drawn(): Promise<void> {
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))));
}

async function tried(name: keyof typeof MAKE): Promise<Record<string, unknown>> {
  const selected: (string | null)[] = [];
  const hovered: (string | null)[] = [];
  const events: Events = { onSelect: (id) => selected.push(id), onHover: (id) => hovered.push(id) };
  const drawing = (MAKE[name] as (events: Events, data: unknown) => Drawing<unknown>)(events, DATA[name]);
  const box = document.createElement("div");
  box.style.cssText = "width:900px;height:480px";
  box.append(drawing.element);
  document.querySelector("main")!.append(box);
  await drawn();
  const before = drawing.element.querySelector(".mm-svg")!.getBoundingClientRect();
  box.style.width = "700px";
  await drawn();
  const after = drawing.element.querySelector(".mm-svg")!.getBoundingClientRect();

  const rules = await axe.run(box, { resultTypes: ["violations"] });
  const first = drawing.element.querySelector<SVGElement>(".mm-svg [tabindex='0']")!;
  first.focus();
  const label = first.getAttribute("aria-label");
  for (const key of ["ArrowDown", "ArrowRight", "ArrowLeft", "Enter"]) press(key);
  const byKey = selected.at(-1) ?? null;
  press("Escape");
  press("Escape");
  press("Escape");
  drawing.select(EVIL);
  const marked = drawing.element.querySelectorAll(".is-selected, .mm-chosen").length;
  drawing.hover(EVIL);
  drawing.select("nobody");
  drawing.select(EVIL);
  const count = selected.length;
  const text = drawing.svg();
  const parsed = new DOMParser().parseFromString(text, "image/svg+xml");
  const again = drawing.svg();
  drawing.update(DATA[name]);
  await drawn();
  const result = {
    widths: [Math.round(before.width), Math.round(after.width)],
    violations: rules.violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html.slice(0, 200)}`),
    label,
    byKey,
    last: selected.at(-1) ?? null,
    quiet: selected.length === count,
    hovered: hovered.length,
    marked,
    role: drawing.element.querySelector(".mm-svg")!.getAttribute("role"),
    title: drawing.element.querySelector(".mm-svg > title")!.textContent,
    images: box.querySelectorAll("img, script, iframe").length,
    handlers: [...box.querySelectorAll("*")].filter((element) => element.getAttributeNames().some((attribute) => attribute.startsWith("on"))).length,
    svg: {
      wellFormed: parsed.querySelector("parsererror") === null,
      foreign: parsed.querySelectorAll("img, script, foreignObject").length,
      says: parsed.documentElement.textContent!.includes("<img src=x"),
      colours: !/var\(|currentColor/.test(text),
      quiet: !/tabindex|aria-label=|data-|role="(?!img)/.test(text),
      again: text === again,
      size: parsed.documentElement.getAttribute("viewBox"),
    },
  };
  drawing.destroy();
  return { ...result, left: box.childElementCount };
}

async function all(): Promise<void> {
  const results: Record<string, unknown> = {};
  for (const name of Object.keys(MAKE) as (keyof typeof MAKE)[]) {
    results[name] = await tried(name).catch((error: unknown) => ({ error: String((error as Error).stack) }));
  }
  results["hit"] = "hit" in window;
  await fetch("/results", { method: "POST", body: JSON.stringify(results) });
}

void all();
