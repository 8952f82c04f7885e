/** Before, after and their ratio: of the run, of every stage and of every module. */

import type { Baseline, Context } from "../core/context";
import { type Child, fill, h, iconButton } from "../core/dom";
import { csv, download, fileName } from "../core/files";
import { precise, ratio, shown, type Unit } from "../core/format";

interface Line {
  group: string;
  title: string;
  before: number | undefined;
  after: number | undefined;
  unit: Unit;
  /** Whether more of it is better; of everything else less is. */
  isGain?: boolean;
  id?: string;
}

const RUN: [string, string, Unit, isGain?: boolean][] = [
  ["run/total/estimate", "Total time", "seconds"],
  ["run/first_token/estimate", "Time to the first token", "seconds"],
  ["run/output_token/estimate", "Time of each further token", "seconds"],
  ["run/pages_per_s/estimate", "Pages per second", "rate", true],
  ["run/tokens_per_s/estimate", "Tokens per second", "rate", true],
  ["run/price/estimate", "Price of 1,000 pages", "usd"],
  ["0/all/flops", "FLOPs", "flops"],
  ["0/all/bytes", "Bytes moved", "bytes"],
  ["0/all/launches", "Launches", "count"],
  ["0/all/weights", "Weights", "bytes"],
  ["0/all/cache", "KV cache", "bytes"],
  ["run/live_bytes", "Peak live memory", "bytes"],
  ["run/memory_bytes", "Memory needed", "bytes"],
];

const PARTS: [string, string, Unit][] = [
  ["estimate", "time", "seconds"],
  ["flops", "FLOPs", "flops"],
  ["bytes", "bytes moved", "bytes"],
];

/** More modules are not listed: the CSV has all. */
const MOST_MODULES = 300;

export function comparison(context: Context): { element: HTMLElement; update(): void; select(id: string | null): void; hover(): void } {
  const element = h("div", { class: "compare", tabindex: 0, role: "region", "aria-label": "Comparison" });
  const update = (): void => {
    const baseline = context.baseline();
    if (!baseline) {
      fill(element, h("p", { class: "empty" }, "There is nothing to compare with yet. Change a control or pin the present state as the baseline; or give another document with --compare."));
      return;
    }
    const lines = linesOf(context, baseline);
    const shownLines = [...lines.filter((line) => !line.id), ...modulesShown(lines)];
    fill(
      element,
      h("div", { class: "compare-head" }, h("p", {}, "Before: ", h("strong", {}, baseline.title), ". After: ", h("strong", {}, context.isChanged() ? "the what-if state" : "this report"), "."), iconButton("download", "Save the comparison as CSV", () => save(context, lines), "CSV")),
      table(context, shownLines),
      missing(context, baseline),
    );
  };
  update();
  const select = (id: string | null): void => {
    for (const row of element.querySelectorAll<HTMLElement>("tr[data-id]")) row.classList.toggle("is-selected", row.dataset.id === id);
  };
  return { element, update, select, hover: () => undefined };
}

/** Modules that differ most first, by their time or their FLOPs. */
function modulesShown(lines: Line[]): Line[] {
  const modules = lines.filter((line) => line.id && line.group === "modules");
  const far = (line: Line): number => Math.abs((line.after ?? 0) - (line.before ?? 0));
  return modules.sort((a, b) => far(b) - far(a)).slice(0, MOST_MODULES);
}

function linesOf(context: Context, baseline: Baseline): Line[] {
  const after = context.figures();
  const before = baseline.figures;
  const root = baseline.place(0);
  const theirs = (name: string): number | undefined => before.get(name.startsWith("0/") ? `${root}${name.slice(1)}` : name);
  const lines: Line[] = RUN.map(([name, title, unit, isGain = false]) => ({ group: "run", title, before: theirs(name), after: after.get(name), unit, isGain }));
  for (const stage of context.stages()) {
    for (const [measure, title, unit] of PARTS) {
      lines.push({ group: "stages", title: `${stage}: ${title}`, before: before.of(root, stage, measure), after: after.of(0, stage, measure), unit });
    }
  }
  const measure = ["estimate", "flops"].find((name) => after.of(0, "all", name) !== undefined) ?? "calls";
  const unit: Unit = measure === "estimate" ? "seconds" : measure === "flops" ? "flops" : "count";
  context.tree.modules.forEach((row, place) => {
    const there = baseline.place(place);
    lines.push({ group: "modules", id: row.id, title: row.id, before: there < 0 ? undefined : before.of(there, "all", measure), after: after.of(place, "all", measure), unit });
  });
  return lines.filter((line) => line.before !== undefined || line.after !== undefined);
}

const GROUPS: Record<string, string> = { run: "The run", stages: "Stages", modules: "Modules with what is below, those that differ most first" };

function table(context: Context, lines: Line[]): HTMLElement {
  const body: Child[] = [];
  let group = "";
  for (const line of lines) {
    if (line.group !== group) {
      group = line.group;
      body.push(h("tr", { class: "group" }, h("th", { colspan: 4, scope: "rowgroup" }, GROUPS[group]!)));
    }
    const title = line.id ? h("button", { type: "button", class: "link", onclick: () => context.store.set({ selected: line.id! }) }, line.title) : line.title;
    const change = ratio(line.before, line.after);
    const isBetter = (line.after ?? 0) < (line.before ?? 0) !== Boolean(line.isGain);
    body.push(
      h(
        "tr",
        line.id ? { "data-id": line.id } : {},
        h("th", { scope: "row" }, title),
        h("td", { title: precise(line.before, line.unit) }, shown(line.before, line.unit)),
        h("td", { title: precise(line.after, line.unit) }, shown(line.after, line.unit)),
        h("td", { class: change === "×1.00" ? "is-same" : isBetter ? "is-better" : "is-worse" }, change),
      ),
    );
  }
  return h(
    "table",
    { class: "comparison" },
    h("thead", {}, h("tr", {}, h("td"), h("th", { scope: "col" }, "Before"), h("th", { scope: "col" }, "After"), h("th", { scope: "col" }, "Ratio"))),
    h("tbody", {}, ...body),
  );
}

function missing(context: Context, baseline: Baseline): HTMLElement | null {
  const added = context.tree.modules.filter((_, place) => baseline.place(place) < 0).map((row) => row.id);
  const parts = [
    baseline.missing.length ? `Only before: ${some(baseline.missing)}.` : "",
    added.length ? `Only after: ${some(added)}.` : "",
  ].filter(Boolean);
  return parts.length ? h("p", { class: "note" }, parts.join(" ")) : null;
}

function some(ids: string[]): string {
  return ids.slice(0, 20).join(", ") + (ids.length > 20 ? ` and ${ids.length - 20} more` : "");
}

function save(context: Context, lines: Line[]): void {
  const rows = lines.map((line) => [line.group, line.title, line.before, line.after, quotient(line.before, line.after)]);
  download(fileName(context.data.title, "comparison") + ".csv", "text/csv;charset=utf-8", csv([["part", "figure", "before", "after", "ratio"], ...rows]));
}

function quotient(before: number | undefined, after: number | undefined): number | undefined {
  return before && after !== undefined ? after / before : undefined;
}

