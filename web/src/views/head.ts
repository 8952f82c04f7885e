/** The head of the page: the model, the run, and its main figures. */

import type { Context } from "../core/context";
import { BOUNDS } from "../core/data";
import { type Child, fill, h } from "../core/dom";
import { type Figures, interval } from "../core/figures";
import { NONE, precise, ratio, shown, type Unit } from "../core/format";
import { assumptionList } from "./details";
import { pageOutline } from "./outline";
import { stageBar } from "./stages";

export function head(context: Context): HTMLElement {
  const element = h("section", { class: "head", "aria-label": "Summary" });
  const update = (): void => fill(element, ...contents(context));
  update();
  context.store.watch(["settings", "pinned"], update);
  return element;
}

function contents(context: Context): Child[] {
  const answer = context.answer();
  const refused = answer?.refusals.length
    ? h("div", { class: "refusal", role: "alert" }, ...answer.refusals.map((text) => h("p", {}, `Not possible: ${text}`)))
    : null;
  return [
    refused,
    context.data.modules.length ? h("div", { class: refused ? "head-row is-refused" : "head-row" }, pageOutline(context), tiles(context)) : null,
    stageBar(context),
    ...notes(context),
    assumptions(context),
  ];
}

/** What every figure rests on, behind a line that opens. */
function assumptions(context: Context): HTMLElement | null {
  const { report, callgraph } = context.data;
  const assumed = callgraph?.assumptions ?? [];
  if (!report?.notes && !assumed.length) return null;
  const list = assumed.length ? [h("p", {}, "Values that the trace supplied:"), assumptionList(assumed.slice(0, MOST_ASSUMPTIONS))] : [];
  const more = assumed.length - MOST_ASSUMPTIONS;
  return h(
    "details",
    { class: "assumptions" },
    h("summary", {}, "What these figures assume"),
    report?.notes ? h("p", {}, report.notes) : null,
    ...list,
    more > 0 ? h("p", {}, `And ${more.toLocaleString("en-US")} more.`) : null,
  );
}

const MOST_ASSUMPTIONS = 50;

function tiles(context: Context): HTMLElement {
  const figures = context.figures();
  const baseline = context.baseline();
  const before = baseline?.figures;
  const answer = context.answer();
  const list = h("dl", { class: "tiles" });
  const put = (title: string, value: string, tip: string, detail: Child, change = ""): void => {
    list.append(
      h(
        "div",
        { class: "tile" },
        h("dt", {}, title),
        h("dd", { class: "tile-value", title: tip }, h("span", {}, value), change && h("span", { class: "change", title: `Against ${baseline?.title}` }, change)),
        h("dd", { class: "tile-detail" }, detail),
      ),
    );
  };
  const timed = (title: string, name: string, unit: Unit, detail = ""): void => {
    const found = interval(figures, name);
    if (!found) return;
    const spread = `${shown(found.low, unit)} to ${shown(found.high, unit)}`;
    put(title, shown(found.estimate, unit), precise(found.estimate, unit), detail || spread, changed(before, figures, `${name}/estimate`));
  };
  timed("Total time", "run/total", "seconds");
  timed("First token", "run/first_token", "seconds");
  const perToken = figures.get("run/output_token/estimate");
  if (perToken) timed("Each further token", "run/output_token", "seconds");
  timed("Pages per second", "run/pages_per_s", "rate");
  timed("Tokens per second", "run/tokens_per_s", "rate");
  timed("Price of 1,000 pages", "run/price", "usd");
  const flops = figures.of(0, "all", "flops");
  if (flops !== undefined) {
    put("Work", shown(flops, "flops"), precise(flops, "flops"), `${shown(figures.of(0, "all", "parameters"), "count")} parameters`, changed(before, figures, "0/all/flops"));
  }
  const bytes = figures.of(0, "all", "bytes");
  if (bytes !== undefined) {
    put("Traffic", shown(bytes, "bytes"), precise(bytes, "bytes"), `${shown(figures.of(0, "all", "launches"), "count")} launches`, changed(before, figures, "0/all/bytes"));
  }
  memoryTile(figures, put, changed(before, figures, "run/memory_bytes"));
  const most = answer ? answer.largestBatch : figures.get("run/largest_batch");
  if (most !== undefined) put("Largest batch", shown(most, "count"), precise(most, "count"), "requests that fit at once");
  return list;
}

function changed(before: Figures | undefined, after: Figures, name: string): string {
  const text = before ? ratio(before.get(name), after.get(name)) : NONE;
  return text === NONE || text === "×1.00" ? "" : text;
}

type Put = (title: string, value: string, tip: string, detail: Child, change?: string) => void;

function memoryTile(figures: Figures, put: Put, change: string): void {
  const need = figures.get("run/memory_bytes");
  const room = figures.get("run/headroom_bytes");
  if (need === undefined || room === undefined) {
    const live = figures.get("run/live_bytes");
    if (live !== undefined) {
      const weights = figures.of(0, "all", "weights");
      put("Peak live memory", shown(live, "bytes"), precise(live, "bytes"), weights === undefined ? "" : `besides ${shown(weights, "bytes")} of weights`);
    }
    return;
  }
  const share = Math.min(1, need / Math.max(1, need + room));
  const meter = h(
    "span",
    { class: room < 0 ? "meter is-over" : "meter", role: "img", "aria-label": `${shown(share, "share")} of the device's memory` },
    h("span", { style: `inline-size: ${(share * 100).toFixed(2)}%` }),
  );
  const words = room < 0 ? `${shown(-room, "bytes")} too much` : `${shown(room, "bytes")} left`;
  put("Memory", shown(need, "bytes"), precise(need, "bytes"), h("span", { class: "metered" }, meter, words), change);
}

/** What is missing, and what the figures leave open. */
function notes(context: Context): Child[] {
  const { report, callgraph, why_not_live: why } = context.data;
  const found: string[] = [];
  if (!report) {
    found.push("This page was made from a call graph alone: figures are those of the traced run, traffic is what each operation moves by itself, and there are no times, devices or prices. Give a report.json as well to see them.");
  } else if (!callgraph) {
    found.push("This page was made from a report alone: shapes, the call graph and memory over the run are not shown. Give a callgraph.json as well to see them.");
  }
  if (report && why) found.push(`The figures cannot be changed on this page: ${why}.`);
  if (callgraph?.lower_bound) {
    const names = Object.entries(callgraph.unknown_operators).map(([name, calls]) => `${name} (${calls})`);
    found.push(`FLOPs of the call graph are a lower bound: nothing is known of ${names.join(", ")}.`);
  }
  for (const line of callgraph?.disagreements ?? []) found.push(line);
  if (!context.data.modules.length) found.push("No module ran: there is nothing to show.");
  return found.map((text) => h("p", { class: "note" }, text));
}

export function boundName(code: number | undefined): string {
  return code === undefined ? "" : (BOUNDS[code] ?? "");
}
