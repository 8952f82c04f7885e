/** Which stage takes how long, and what it waits for. */

import type { Context } from "../core/context";
import { h } from "../core/dom";
import { precise, shown, type Unit } from "../core/format";
import { boundName } from "./head";

const MEASURES: [string, Unit, string][] = [
  ["estimate", "seconds", "time"],
  ["flops", "flops", "FLOPs"],
];

export function stageBar(context: Context): HTMLElement | null {
  const figures = context.figures();
  const stages = context.stages();
  if (!stages.length) return null;
  const [measure, unit, title] = MEASURES.find(([name]) => stages.some((stage) => figures.of(0, stage, name)))!;
  const values = stages.map((stage) => figures.of(0, stage, measure) ?? 0);
  const whole = values.reduce((sum, value) => sum + value, 0);
  const bar = h("div", { class: "stage-bar", role: "img", "aria-label": `Shares of ${title} by stage` });
  const legend = h("ul", { class: "stage-legend" });
  stages.forEach((stage, at) => {
    const share = whole ? values[at]! / whole : 0;
    bar.append(h("span", { class: `stage-${stage}`, style: `flex-grow: ${share}`, title: `${stage}: ${precise(values[at], unit)}` }));
    const bound = boundName(figures.of(0, stage, "bound"));
    legend.append(
      h(
        "li",
        {},
        h("span", { class: `swatch stage-${stage}`, "aria-hidden": "true" }),
        h("strong", {}, stage),
        ` ${shown(values[at], unit)} · ${shown(share, "share")}`,
        bound ? h("span", { class: `bound bound-${bound}` }, `${bound}-bound`) : null,
      ),
    );
  });
  return h("div", { class: "stages" }, bar, legend);
}
