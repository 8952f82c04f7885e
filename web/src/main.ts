/** The page: reads its data, puts the views together, and keeps the address and the state in step. */

import { COLUMNS, DEFAULT_COLUMNS } from "./core/columns";
import { Context } from "./core/context";
import { type PageData, readData } from "./core/data";
import { h, iconButton } from "./core/dom";
import { fragment, readFragment } from "./core/link";
import { allowed } from "./core/settings";
import { type State, Store, type Theme, THEMES } from "./core/state";
import { Tree } from "./core/tree";
import { copyText } from "./views/clipboard";
import { controls } from "./views/controls";
import { details } from "./views/details";
import { Drawings } from "./views/drawings";
import { head } from "./views/head";
import { ModuleTable } from "./views/table";

function initial(data: PageData): State {
  return {
    selected: null,
    tab: data.other ? "compare" : data.live ? "roofline" : data.graph ? "graph" : "icicle",
    stage: "all",
    sort: "",
    descending: true,
    columns: DEFAULT_COLUMNS,
    flat: false,
    search: "",
    measure: "estimate",
    theme: "auto",
    settings: {},
    pinned: null,
  };
}

function stateOf(data: PageData): State {
  const found = readFragment(location.hash, initial(data), COLUMNS.map((column) => column.name));
  const pinned = found.pinned && data.live ? allowed(found.pinned, data.live) : null;
  const stage = ["all", ...(data.live?.stages ?? ["vision", "projector", "prefill", "decode", "other"])].includes(found.stage) ? found.stage : "all";
  return { ...found, stage, pinned, settings: allowed(found.settings, data.live) };
}

function start(data: PageData, app: HTMLElement): void {
  const store = new Store(stateOf(data));
  const live = h("div", { class: "toast", role: "status", "aria-live": "polite" });
  let timer = 0;
  const say = (text: string): void => {
    live.textContent = text;
    live.classList.add("is-shown");
    clearTimeout(timer);
    timer = window.setTimeout(() => live.classList.remove("is-shown"), 2500);
  };
  const context = new Context(data, Tree.of(data), store, say);
  const table = new ModuleTable(context);
  const drawings = new Drawings(context);
  table.element.addEventListener("hovered", (event) => drawings.hover((event as CustomEvent<string>).detail));
  table.element.addEventListener("mouseleave", () => drawings.hover(null));
  app.replaceChildren(
    banner(context, initial(data), h("a", { class: "skip", href: "#modules", onclick: (event: Event) => skip(event, table) }, "Skip to the module table")),
    h("main", { class: "layout" }, controls(context), h("div", { class: "centre" }, head(context), drawings.element, table.element), details(context, table)),
    live,
  );
  document.title = `${data.title} · ModelMeter`;
  keepAddress(store, data);
  document.addEventListener("keydown", (event) => shortcuts(event, store));
}

function skip(event: Event, table: ModuleTable): void {
  event.preventDefault();
  table.element.querySelector<HTMLElement>(".grid")?.focus();
}

function banner(context: Context, first: State, toTable: HTMLElement): HTMLElement {
  const { data, store } = context;
  const { report, callgraph } = data;
  const about = report
    ? [report.variant, report.profile.id === "custom" ? "" : report.profile.id, `report ${report.id}`]
    : [callgraph ? `call graph of ${callgraph.modules.toLocaleString("en-US")} modules` : ""];
  const device = h("strong");
  const update = (): void => {
    device.textContent = context.answer()?.device.name ?? report?.device.name ?? "";
  };
  update();
  store.watch(["settings"], update);
  const copy = iconButton("link", "Copy a link to what is shown now", () => {
    const text = fragment(store.state, first);
    copyText(`${location.href.split("#")[0]}${text ? `#${text}` : ""}`);
    context.say("Link copied");
  }, "Copy link");
  return h(
    "header",
    { class: "banner" },
    toTable,
    h("div", { class: "brand" }, h("span", { class: "logo", "aria-hidden": "true" }), h("span", {}, "ModelMeter")),
    h("div", { class: "title" }, h("h1", {}, data.title), h("p", {}, device, ...about.filter(Boolean).map((text) => h("span", {}, text)))),
    h("div", { class: "button-row" }, copy, theme(store)),
  );
}

const THEME_NAMES: Record<Theme, string> = { auto: "as the system", light: "light", dark: "dark" };

function theme(store: Store): HTMLElement {
  const button = iconButton("theme", "", () => store.set({ theme: THEMES[(THEMES.indexOf(store.state.theme) + 1) % THEMES.length]! }));
  const update = (): void => {
    const name = store.state.theme;
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    button.title = `Colours: ${THEME_NAMES[name]}`;
    button.setAttribute("aria-label", button.title);
  };
  update();
  store.watch(["theme"], update);
  return button;
}

function keepAddress(store: Store, data: PageData): void {
  const first = initial(data);
  let isOwn = false;
  store.watch(Object.keys(first) as (keyof State)[], () => {
    const text = fragment(store.state, first);
    isOwn = true;
    history.replaceState(null, "", text ? `#${text}` : location.href.split("#")[0]!);
    isOwn = false;
  });
  window.addEventListener("hashchange", () => {
    if (!isOwn) store.set(stateOf(data));
  });
}

function shortcuts(event: KeyboardEvent, store: Store): void {
  const target = event.target as HTMLElement;
  const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    document.getElementById("search")?.focus();
  } else if (event.key === "Escape" && !event.defaultPrevented && !isTyping && !target.closest(".drawing")) {
    store.set({ selected: null });
  }
}

const data = readData(document);
const app = document.getElementById("app");
if (app && data) start(data, app);
else if (app) app.textContent = "This is the page's template, without data: modelmeter report fills it.";
