/** The what-if controls. A lever that is out of use is there, grey, and says why. */

import type { Context } from "../core/context";
import type { Levers, Live, NumberLever } from "../core/data";
import { fill, h, icon, iconButton } from "../core/dom";
import { normalized, type Settings } from "../core/settings";
import { copyText } from "./clipboard";

export function controls(context: Context): HTMLElement {
  const live = context.data.live;
  const body = h("div", { class: "controls-body" });
  const panel = h("section", { class: "controls", "aria-label": "What if" }, h("h2", {}, "What if"), body);
  if (!live) {
    fill(body, ...idle(context.data.why_not_live));
    return panel;
  }
  const form = new Form(context, live);
  fill(body, form.element);
  context.store.watch(["settings", "pinned"], () => form.update());
  return panel;
}

const NAMES = ["Device", "Execution", "Attention", "Data type", "Page", "Batch", "Pages in a request", "Text tokens", "Output tokens"];

function idle(why: string): HTMLElement[] {
  const reason = why || "this page holds no report";
  return [
    h("p", { class: "why", id: "why-idle" }, `Out of use: ${reason}.`),
    ...NAMES.map((name, at) =>
      h("div", { class: "field is-idle", title: reason }, h("label", { for: `idle-${at}` }, name), h("input", { id: `idle-${at}`, disabled: true, value: NAME_VALUE, "aria-describedby": "why-idle" })),
    ),
  ];
}

const NAME_VALUE = "–";

class Form {
  readonly element: HTMLFormElement;
  private readonly updates: (() => void)[] = [];
  /** Why levers are out of use, each reason once; by the id that fields name it by. */
  private readonly reasons = new Map<string, string>();

  constructor(
    private readonly context: Context,
    private readonly live: Live,
  ) {
    const { levers } = live;
    this.element = h(
      "form",
      { autocomplete: "off", onsubmit: (event: Event) => event.preventDefault() },
      this.choice("device", "Device", live.devices.map((device) => [device.id, device.name]), levers.device.value, levers.device.reason),
      this.switch("execution", "Execution", [["eager", "eager"], ["graph", "captured graph"]], levers.execution.value, levers.execution.reason),
      this.switch("attention", "Attention", distinct(live.variants.map((one) => [one.attention, one.attention_label])), live.variants[0]!.attention, levers.attention.reason),
      this.choice("dtype", "Data type", distinct(live.variants.map((one) => [one.dtype, one.dtype_label])), live.variants[0]!.dtype, levers.dtype.reason),
      this.idle("devices", "Devices", levers.devices.value, levers.devices.reason),
      h("hr"),
      ...(levers.pages.value ? [this.mode(levers), ...this.page(levers), this.number("pages", "Pages in a request", levers.pages), h("hr")] : []),
      this.number("batch", "Batch", levers.batch),
      this.number("text_tokens", "Text tokens", levers.text_tokens),
      this.outputTokens(levers.decode_steps),
      this.actions(),
      ...this.whys(),
    );
    this.update();
  }

  update(): void {
    for (const update of this.updates) update();
  }

  private whys(): HTMLElement[] {
    return [...this.reasons].map(([reason, id]) => h("p", { class: "why", id }, `Grey: ${reason}.`));
  }

  private get settings(): Settings {
    return this.context.store.state.settings;
  }

  private set(changes: Settings, without: (keyof Settings)[] = []): void {
    const next: Settings = { ...this.settings, ...changes };
    for (const name of without) delete next[name];
    this.context.store.set({ settings: normalized(next, this.live) });
  }

  private field(name: string, title: string, input: HTMLElement, reason: string, isChanged: () => boolean): HTMLElement {
    const label = h("label", { for: `lever-${name}` }, title);
    input.id = `lever-${name}`;
    if (reason) {
      input.setAttribute("disabled", "");
      if (!this.reasons.has(reason)) this.reasons.set(reason, `why-${name}`);
      input.setAttribute("aria-describedby", this.reasons.get(reason)!);
    }
    const box = h("div", { class: reason ? "field is-idle" : "field", title: reason || null }, label, input);
    this.updates.push(() => box.classList.toggle("is-changed", isChanged()));
    return box;
  }

  private choice(name: "device" | "dtype", title: string, options: [string, string][], own: string, reason: string): HTMLElement {
    const input = h(
      "select",
      { name, onchange: () => this.set({ [name]: input.value }) },
      ...options.map(([value, label]) => h("option", { value }, value === own ? `${label} (report)` : label)),
    );
    this.updates.push(() => (input.value = this.settings[name] ?? own));
    return this.field(name, title, input, reason, () => this.settings[name] !== undefined);
  }

  private switch(name: "execution" | "attention", title: string, options: [string, string][], own: string, reason: string): HTMLElement {
    if (reason) return this.idle(name, title, options.map(([, label]) => label).join(", "), reason);
    const radios = options.map(([value, label]) => {
      const radio = h("input", { type: "radio", name, value, onchange: () => this.set({ [name]: value }) });
      this.updates.push(() => (radio.checked = (this.settings[name] ?? own) === value));
      return h("label", {}, radio, h("span", {}, label));
    });
    const box = h("fieldset", { class: "field switch" }, h("legend", {}, title), h("div", {}, ...radios));
    this.updates.push(() => box.classList.toggle("is-changed", this.settings[name] !== undefined));
    return box;
  }

  /** What the report has, of a lever that is out of use. */
  private idle(name: string, title: string, value: string, reason: string): HTMLElement {
    return this.field(name, title, h("input", { value, readonly: true }), reason, () => false);
  }

  private number(name: "batch" | "pages" | "text_tokens", title: string, lever: NumberLever): HTMLElement {
    const input = this.numberInput(lever.min, lever.max, (value) => this.set({ [name]: value }));
    this.updates.push(() => show(input, this.shownNumber(name, lever)));
    return this.field(name, title, input, lever.reason, () => this.settings[name] !== undefined);
  }

  /** A page that is changed frees the length of the prompt. */
  private shownNumber(name: "batch" | "pages" | "text_tokens", lever: NumberLever): number | undefined {
    const { settings } = this;
    const isNewPage = settings.grid ?? settings.size ?? settings.pages;
    if (name === "text_tokens" && isNewPage !== undefined && settings.text_tokens === undefined) {
      return this.live.levers.page.text_tokens;
    }
    return settings[name] ?? lever.value;
  }

  /** One more than the decode steps: the prefill gives the first token. */
  private outputTokens(lever: NumberLever): HTMLElement {
    const input = this.numberInput(lever.min + 1, lever.max + 1, (value) => this.set({ decode_steps: value - 1 }));
    this.updates.push(() => {
      const steps = this.settings.decode_steps ?? lever.value;
      show(input, steps === undefined ? undefined : steps + 1);
    });
    return this.field("output_tokens", "Output tokens", input, lever.reason, () => this.settings.decode_steps !== undefined);
  }

  private numberInput(min: number, max: number, take: (value: number) => void): HTMLInputElement {
    const read = (): void => {
      const value = Number(input.value);
      const isRight = input.value !== "" && Number.isInteger(value) && value >= min && value <= max;
      input.setAttribute("aria-invalid", String(!isRight));
      input.title = isRight ? "" : `a whole number from ${min} to ${max}`;
      if (isRight) take(value);
    };
    const input = h("input", { type: "number", min, max, step: 1, inputmode: "numeric", oninput: read, onblur: () => this.update() });
    return input;
  }

  private mode(levers: Levers): HTMLElement {
    const { choices = {}, value, reason } = levers.mode;
    const options = Object.keys(choices).map((name) => h("option", { value: name }, name === value ? `${name} (report)` : name));
    if (!value) options.unshift(h("option", { value: "" }, "as in the report"));
    const input = h("select", { onchange: () => (input.value ? this.set({ mode: input.value }) : this.set({}, ["mode"])) }, ...options);
    this.updates.push(() => (input.value = this.settings.mode ?? value ?? ""));
    return this.field("mode", "Resolution mode", input, reason, () => this.settings.mode !== undefined);
  }

  private page(levers: Levers): HTMLElement[] {
    const lever = levers.page;
    if (lever.reason) {
      return [this.idle("page", "Page", NAME_VALUE, lever.reason)];
    }
    const bySize = "by size";
    const grid = h("select", { onchange: () => (grid.value === bySize ? this.set({ size: this.size() }, ["grid"]) : this.set({ grid: pair(grid.value) }, ["size"])) });
    const grids = [[1, 1] as [number, number], ...lever.grids.crops.filter(([w, t]) => w * t > 1)];
    fill(grid, h("option", { value: bySize }, "from the page's size"), ...grids.map(([w, t]) => h("option", { value: `${w}x${t}` }, w * t > 1 ? `${w} × ${t} crops` : "no crops")));
    const [width, height] = [0, 1].map((side) =>
      this.numberInput(1, lever.max, (value) => {
        const size = this.size();
        size[side] = value;
        this.set({ size }, ["grid"]);
      }),
    ) as [HTMLInputElement, HTMLInputElement];
    width.setAttribute("aria-label", "Page width in pixels");
    height.setAttribute("aria-label", "Page height in pixels");
    const sizes = h("div", { class: "sizes" }, width, h("span", { "aria-hidden": "true" }, "×"), height, h("span", { class: "unit" }, "px"));
    this.updates.push(() => {
      const size = this.settings.grid ? null : (this.settings.size ?? lever.size);
      const given = this.settings.grid ?? lever.grid;
      grid.value = size ? bySize : `${given[0]}x${given[1]}`;
      sizes.hidden = !size;
      if (size) [width, height].forEach((input, side) => show(input, size[side]));
    });
    const isChanged = (): boolean => Boolean(this.settings.grid ?? this.settings.size);
    return [this.field("page", "Crop grid", grid, "", isChanged), sizes];
  }

  private size(): [number, number] {
    return [...(this.settings.size ?? this.live.levers.page.size ?? A4)] as [number, number];
  }

  private actions(): HTMLElement {
    const reset = iconButton("reset", "Back to the report", () => this.context.store.set({ settings: {} }), "Reset");
    const pin = iconButton("pin", "Compare with the present state from now on", () => this.pin(), "Pin as baseline");
    const line = h("code", { class: "command", tabindex: 0 });
    const copy = iconButton("copy", "Copy the command", () => {
      copyText(line.textContent ?? "");
      this.context.say("Command copied");
    });
    const box = h("div", { class: "command-box" }, h("p", { class: "caption" }, "The same as a command"), h("div", {}, line, copy));
    this.updates.push(() => {
      const isChanged = this.context.isChanged();
      const { pinned } = this.context.store.state;
      reset.disabled = !isChanged;
      box.hidden = !isChanged;
      line.textContent = this.context.answer()?.command ?? "";
      fill(pin, icon("pin"), pinned ? "Unpin baseline" : "Pin baseline");
      pin.title = pinned ? "Compare no longer with the pinned state" : "Compare with the present state from now on";
    });
    return h("div", { class: "actions" }, h("div", { class: "button-row" }, reset, pin), box);
  }

  private pin(): void {
    const { store } = this.context;
    store.set({ pinned: store.state.pinned ? null : { ...store.state.settings } });
    this.context.say(store.state.pinned ? "Pinned: the comparison is with this state" : "Unpinned");
  }
}

const A4: [number, number] = [1240, 1754];

function pair(text: string): [number, number] {
  const [columns, rows] = text.split("x").map(Number);
  return [columns!, rows!];
}

/** A value in an input that nobody is typing into. */
function show(input: HTMLInputElement, value: number | undefined): void {
  if (document.activeElement === input && Number(input.value) === value) return;
  if (document.activeElement === input && input.getAttribute("aria-invalid") === "true") return;
  input.value = value === undefined ? "" : String(value);
  input.setAttribute("aria-invalid", "false");
}

function distinct(pairs: [string, string][]): [string, string][] {
  return [...new Map(pairs)];
}
