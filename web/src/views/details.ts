/** The panel of the selected module: what it is, what it costs, its tensors, its formula. */

import temml from "temml";
import { boundOf } from "../core/columns";
import type { Context } from "../core/context";
import type { FilledFormula, Formula } from "../core/data";
import { type Child, fill, h, iconButton } from "../core/dom";
import { precise, shown, type Unit } from "../core/format";
import { copyText } from "./clipboard";
import { type ModuleTable, shortName } from "./table";

export function details(context: Context, table: ModuleTable): HTMLElement {
  const panel = h("aside", { class: "details", "aria-label": "Selected module", tabindex: -1 });
  const update = (): void => {
    const { selected } = context.store.state;
    const place = context.tree.family(selected);
    if (place < 0) fill(panel, h("div", { class: "details-head" }, h("h2", {}, "Details"), closing(context)), h("p", { class: "quiet" }, `There is no module ${selected} here.`));
    else fill(panel, ...contents(context, table, selected!, place));
    panel.hidden = selected === null;
  };
  update();
  context.store.watch(["selected", "settings", "pinned"], update);
  return panel;
}

function contents(context: Context, table: ModuleTable, selected: string, place: number): Child[] {
  const { tree, data, store } = context;
  const row = tree.modules[place]!;
  const isInstance = tree.place(selected) < 0;
  const members = tree.members(place);
  const formula = data.formulas?.[row.id];
  const copy = iconButton("copy", "Copy the id", () => {
    copyText(selected);
    context.say("Id copied");
  });
  const path = tree.path(place).slice(0, -1);
  return [
    h("div", { class: "details-head" }, h("h2", { class: "id" }, selected), h("span", { class: "button-row" }, copy, closing(context))),
    h(
      "p",
      { class: "tags" },
      h("span", { class: `tag stage-tag stage-${row.stage}` }, row.stage),
      row.repeat ? h("span", { class: "tag" }, row.repeat) : null,
      isInstance ? h("span", { class: "tag" }, "one of ", h("code", {}, row.id)) : null,
    ),
    h("p", { class: "quiet class-name" }, row.qualified),
    path.length ? h("nav", { class: "path", "aria-label": "Callers of the selected module" }, ...path.map((above) => h("button", { type: "button", class: "crumb", onclick: () => store.set({ selected: tree.modules[above]!.id }) }, nameBelow(context, above)))) : null,
    members.length > 1
      ? h("button", { type: "button", class: "button", onclick: () => table.unfold({ module: place }) }, `Show or hide the ${members.length.toLocaleString("en-US")} single modules`)
      : null,
    isInstance ? section("In the traced run", instanceFacts(context, tree.instance(selected))) : null,
    section(isInstance ? "The family's figures" : "Figures", metrics(context, place)),
    categories(context, place),
    Object.keys(row.config).length ? section("Configuration", configuration(row.config)) : null,
    row.inputs?.length || row.outputs?.length ? section("Tensors", signatures(row.inputs ?? [], row.outputs ?? [])) : null,
    formula ? section("Formula", formulaPart(formula, context.isChanged())) : null,
    assumed(context, selected, row.id),
  ];
}

function closing(context: Context): HTMLElement {
  return iconButton("close", "Select nothing", () => context.store.set({ selected: null }));
}

function nameBelow(context: Context, place: number): string {
  const { modules } = context.tree;
  const { id, parent } = modules[place]!;
  return shortName(id, parent === null ? null : modules[parent]!.id);
}

function section(title: string, ...children: Child[]): HTMLElement {
  return h("section", { class: "detail" }, h("h3", {}, title), ...children);
}

const MEASURES: [string, Unit, string][] = [
  ["calls", "count", "Calls"],
  ["estimate", "seconds", "Time"],
  ["low", "seconds", "shortest run"],
  ["high", "seconds", "longest run"],
  ["share", "share", "Share of time"],
  ["matrix_flops", "flops", "Matrix FLOPs"],
  ["vector_flops", "flops", "Vector FLOPs"],
  ["flops", "flops", "FLOPs"],
  ["bytes", "bytes", "Bytes moved"],
  ["launches", "count", "Launches"],
  ["own_estimate", "seconds", "Own time"],
  ["parameters", "count", "Parameters"],
  ["weights", "bytes", "Weights"],
  ["peak", "bytes", "Peak memory"],
  ["cache", "bytes", "KV cache"],
];

/** Measures by stage; what is of the whole run alone stands in its column. */
function metrics(context: Context, place: number): HTMLElement {
  const figures = context.figures();
  const stages = ["all", ...context.stages().filter((stage) => figures.of(place, stage, "flops") !== undefined && (figures.of(place, stage, "calls") ?? 1) > 0)];
  const shownStages = stages.length === 2 ? ["all"] : stages;
  const body = h("tbody");
  for (const [measure, unit, title] of MEASURES) {
    const values = shownStages.map((stage) => figures.of(place, stage, measure));
    if (values.every((value) => value === undefined)) continue;
    body.append(
      h("tr", {}, h("th", { scope: "row" }, title), ...values.map((value) => h("td", { title: value === undefined ? "" : precise(value, unit) }, value === undefined ? "" : shown(value, unit)))),
    );
  }
  const bounds = shownStages.map((stage) => boundOf(figures, place, stage));
  if (bounds.some((bound) => bound !== "–")) {
    body.append(h("tr", {}, h("th", { scope: "row" }, "Bound by"), ...bounds.map((bound) => h("td", {}, bound === "–" ? "" : h("span", { class: `bound bound-${bound}` }, bound)))));
  }
  const head = h("tr", {}, h("td"), ...shownStages.map((stage) => h("th", { scope: "col" }, stage === "all" ? "whole run" : stage)));
  return h("div", { class: "scroll-x", tabindex: 0, role: "region", "aria-label": "Figures by stage" }, h("table", { class: "facts" }, h("thead", {}, head), body));
}

function categories(context: Context, place: number): HTMLElement | null {
  const figures = context.figures();
  const names = context.data.live?.categories ?? CATEGORY_NAMES;
  const isTimed = figures.of(place, "all", "estimate") !== undefined && context.data.live !== undefined;
  const [measure, unit]: [string, Unit] = isTimed ? ["estimate", "seconds"] : ["flops", "flops"];
  const rows = Object.entries(names)
    .map(([id, title]) => ({ title, value: figures.get(`${place}/all/${id}/${measure}`) ?? 0, flops: figures.get(`${place}/all/${id}/flops`), bytes: figures.get(`${place}/all/${id}/bytes`) }))
    .filter((row) => row.value > 0)
    .sort((a, b) => b.value - a.value);
  if (!rows.length) return null;
  const whole = rows.reduce((sum, row) => sum + row.value, 0);
  return section(
    "Operators",
    h(
      "table",
      { class: "facts operators" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Category"), h("th", { scope: "col" }, isTimed ? "Time" : "FLOPs"), h("th", { scope: "col" }, "Share"), isTimed ? h("th", { scope: "col" }, "FLOPs") : null, h("th", { scope: "col" }, "Bytes"))),
      h(
        "tbody",
        {},
        ...rows.map((row) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, h("span", { class: "mini-bar", style: `inline-size: ${((100 * row.value) / whole).toFixed(1)}%`, "aria-hidden": "true" }), h("span", {}, row.title)),
            h("td", { title: precise(row.value, unit) }, shown(row.value, unit)),
            h("td", {}, shown(row.value / whole, "share")),
            isTimed ? h("td", { title: precise(row.flops, "flops") }, shown(row.flops, "count")) : null,
            h("td", { title: precise(row.bytes, "bytes") }, shown(row.bytes, "bytes")),
          ),
        ),
      ),
    ),
  );
}

/** Names of categories in a report without expressions. */
const CATEGORY_NAMES: Record<string, string> = Object.fromEntries(
  ["linear", "attention", "convolution", "routing", "norm", "activation", "positions", "residual", "embedding", "data_movement", "communication", "other"].map((id) => [id, id.charAt(0).toUpperCase() + id.slice(1).replace("_", " ")]),
);

function instanceFacts(context: Context, instance: number): HTMLElement {
  const all = context.tree.instances!;
  const facts: [string, number | null | undefined, Unit][] = [
    ["Calls", all.calls[instance], "count"],
    ["FLOPs", all.flops[instance], "flops"],
    ["Own parameters", all.parameters[instance], "count"],
    ["Peak memory", all.peak[instance], "bytes"],
  ];
  return h(
    "table",
    { class: "facts" },
    h("tbody", {}, ...facts.map(([title, value, unit]) => h("tr", {}, h("th", { scope: "row" }, title), h("td", { title: precise(value ?? undefined, unit) }, shown(value ?? undefined, unit))))),
  );
}

function configuration(config: Record<string, unknown>): HTMLElement {
  return h("dl", { class: "pairs" }, ...Object.entries(config).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, valueText(value))]));
}

export function valueText(value: unknown): string {
  if (Array.isArray(value)) return value.map(valueText).join(" × ") || "none";
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value);
    if (entries.length === 1 && entries[0]![0] === "one of") return (entries[0]![1] as unknown[]).map(valueText).join(" or ");
    return JSON.stringify(value);
  }
  if (typeof value === "number" && !Number.isSafeInteger(value) && Number.isInteger(value)) return precise(value, "count");
  return String(value);
}

function signatures(inputs: string[], outputs: string[]): HTMLElement {
  const lines = (title: string, texts: string[]): Child[] => texts.map((text) => h("li", {}, h("span", { class: "direction" }, title), h("code", {}, text)));
  return h("ul", { class: "signatures" }, ...lines("in", inputs), ...lines("out", outputs));
}

function formulaPart(formula: Formula, isChanged: boolean): HTMLElement {
  return h(
    "div",
    { class: "formula" },
    h("p", { class: "prose" }, formula.text),
    isChanged ? h("p", { class: "note" }, "Numbers are the report's own, not those of the what-if state.") : null,
    ...formula.formulas.map(({ title, letters, parts }) =>
      h("div", { class: "formula-card" }, h("h4", {}, title), parts.every((part) => !part.numbers) ? null : typeset(letters), ...parts.flatMap((part) => filled(part, parts.length > 1))),
    ),
    symbols(formula),
    formula.source ? h("p", { class: "quiet prose" }, `Source: ${formula.source}`) : null,
  );
}

/** With numbers, and what it comes to for one call and for all. */
function filled(part: FilledFormula, isLabelled: boolean): Child[] {
  return [
    isLabelled ? h("p", { class: "caption" }, part.label) : null,
    part.numbers ? typeset(`{}=\\,${part.numbers}`) : null,
    h("p", { class: "result" }, part.numbers ? "= " : "", part.calls === "1" ? "" : `${part.value} × ${part.calls} ${part.calls === "1" ? "call" : "calls"} = `, h("strong", {}, part.total)),
  ];
}

function symbols(formula: Formula): HTMLElement {
  const rows = formula.symbols
    .filter(([, , values]) => values.length)
    .map(([letter, meaning, values]) => h("tr", {}, h("th", { scope: "row" }, h("i", {}, letter)), h("td", {}, values.join(" or ")), h("td", {}, meaning)));
  return h("table", { class: "symbols" }, h("tbody", {}, ...rows));
}

/**
 * LaTeX as MathML, which browsers draw without fonts of our own; what cannot be read stays as it is written. Lines may
 * break after every operator, so within parentheses too, which therefore are none that grow.
 */
function typeset(latex: string): HTMLElement {
  const box = h("div", { class: "math scroll-x", tabindex: 0, role: "region", "aria-label": "Formula" });
  const breakable = latex
    .replaceAll("\\left(", "\\mathopen{(}")
    .replace(/\\right\)\s*([+-])/g, "\\mathclose{)}\\:{$1}\\:") // the typesetter leaves no room after such a parenthesis
    .replaceAll("\\right)", "\\mathclose{)}");
  temml.render(breakable, box, { wrap: "tex", throwOnError: false, trust: false });
  return box;
}

function assumed(context: Context, selected: string, family: string): HTMLElement | null {
  const found = (context.data.callgraph?.assumptions ?? []).filter((one) => one.module === selected || context.tree.modules[context.tree.family(one.module)]?.id === family);
  return found.length ? section("Assumed by the trace", assumptionList(found.slice(0, 50))) : null;
}

export function assumptionList(found: { module: string; operator: string; rule: string; calls: number }[]): HTMLElement {
  return h("ul", { class: "prose" }, ...found.map((one) => h("li", {}, h("code", {}, one.operator), ` in ${one.module}: ${one.rule} (${one.calls} ${one.calls === 1 ? "call" : "calls"})`)));
}
