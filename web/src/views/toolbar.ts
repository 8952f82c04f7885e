/** Above the table: search, the stage whose figures are shown, tree or list, columns, and the export. */

import { COLUMNS, DEFAULT_COLUMNS } from "../core/columns";
import type { Context } from "../core/context";
import { fill, h, icon, iconButton } from "../core/dom";
import type { ModuleTable } from "./table";

export function toolbar(context: Context, table: ModuleTable, count: HTMLElement): HTMLElement {
  const { store } = context;
  const search = h("input", {
    type: "search",
    id: "search",
    placeholder: "Search modules and classes",
    "aria-label": "Search modules and classes",
    value: store.state.search,
    oninput: () => store.set({ search: search.value }),
  });
  store.watch(["search"], () => {
    if (search.value !== store.state.search) search.value = store.state.search;
  });
  return h(
    "div",
    { class: "toolbar" },
    h("h2", {}, "Modules"),
    h("label", { class: "search" }, icon("search"), search),
    stages(context),
    order(context),
    h("span", { class: "spacer" }),
    count,
    h("button", { type: "button", class: "button", onclick: () => table.openAll() }, "Expand all"),
    h("button", { type: "button", class: "button", onclick: () => table.closeAll() }, "Collapse"),
    columns(context, table),
    iconButton("download", "Save the table as CSV", () => table.exportCsv(), "CSV"),
  );
}

function stages(context: Context): HTMLElement {
  const { store } = context;
  const select = h("select", { "aria-label": "Stage whose figures are shown", onchange: () => store.set({ stage: select.value }) });
  const update = (): void => {
    const known = context.data.report ? context.stages() : [];
    fill(select, h("option", { value: "all" }, "whole run"), ...known.map((stage) => h("option", { value: stage }, stage)));
    select.value = store.state.stage;
    select.hidden = known.length === 0;
  };
  update();
  store.watch(["stage", "settings"], update);
  return select;
}

function order(context: Context): HTMLElement {
  const { store } = context;
  const radios = ([["tree", false], ["list", true]] as const).map(([title, flat]) => {
    const radio = h("input", { type: "radio", name: "layout", value: title, onchange: () => store.set({ flat }) });
    const update = (): void => {
      radio.checked = store.state.flat === flat;
    };
    update();
    store.watch(["flat"], update);
    return h("label", {}, radio, h("span", {}, title));
  });
  return h("div", { class: "switch is-small", role: "radiogroup", "aria-label": "Layout of the table" }, h("div", {}, ...radios));
}

function columns(context: Context, table: ModuleTable): HTMLElement {
  const { store } = context;
  const boxes = COLUMNS.filter((column) => table.isKnown(column)).map((column) => {
    const box = h("input", {
      type: "checkbox",
      onchange: () => {
        const { columns: now } = store.state;
        store.set({ columns: box.checked ? [...now, column.name] : now.filter((name) => name !== column.name) });
      },
    });
    const update = (): void => {
      box.checked = store.state.columns.includes(column.name);
    };
    update();
    store.watch(["columns"], update);
    return h("label", { title: column.tip }, box, h("span", {}, column.title));
  });
  const usual = h("button", { type: "button", class: "button", onclick: () => store.set({ columns: DEFAULT_COLUMNS }) }, "Usual columns");
  const details = h("details", { class: "menu" }, h("summary", { class: "button" }, icon("columns"), "Columns"), h("div", { class: "menu-body" }, ...boxes, usual));
  details.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    details.open = false;
    details.querySelector("summary")?.focus();
  });
  document.addEventListener("click", (event) => {
    if (!details.contains(event.target as Node)) details.open = false;
  });
  return details;
}
