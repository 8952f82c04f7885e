/** Elements of the page. Text is set as text, so that no name can become markup. */

import { plain } from "../drawings/text";

export type Child = Node | string | null | undefined | false;

type Values = Record<string, string | number | boolean | null | undefined | ((event: never) => void)>;

/** An element with attributes, listeners (`onclick: …`) and children; a string is a text. */
export function h<K extends keyof HTMLElementTagNameMap>(
  name: K,
  values: Values = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  apply(element, values);
  add(element, children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** The same for SVG. */
export function s<K extends keyof SVGElementTagNameMap>(
  name: K,
  values: Values = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS(SVG, name);
  apply(element, values);
  add(element, children);
  return element;
}

function apply(element: Element, values: Values): void {
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value as EventListener);
    else if (name === "style") styled(element as HTMLElement, String(value));
    else element.setAttribute(name, value === true ? "" : plain(value));
  }
}

function styled(element: HTMLElement, text: string): void {
  element.style.cssText = text;
}

export function add(element: Element, children: Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.append(typeof child === "string" ? plain(child) : child);
  }
}

/** Replaces everything in an element. */
export function fill(element: Element, ...children: Child[]): void {
  element.replaceChildren();
  add(element, children);
}

/** Small pictures on buttons, drawn with strokes on a grid of 16. */
const ICONS = {
  link: "M6.5 9.5l3-3M7 4.5l1-1a3 3 0 014.5 4.3l-1.3 1.2M9 11.5l-1 1a3 3 0 01-4.5-4.3l1.3-1.2",
  theme: "M8 2.5v11a5.5 5.5 0 000-11zM8 2.5a5.5 5.5 0 000 11",
  download: "M8 2.5v7.5M4.8 7l3.2 3.2L11.2 7M3 13h10",
  close: "M4 4l8 8M12 4l-8 8",
  pin: "M9.5 2.5l4 4-2.5 1-2.5 2.5-.5 2.5-4.5-4.5 2.500-.5L8.500 5zM5.700 10.300L2.500 13.500",
  reset: "M3.5 8a4.500 4.500 0 104.500-4.500H4.500M6.500 1.500l-2 2 2 2",
  search: "M7 11.500a4.500 4.500 0 100-9 4.500 4.500 0 000 9zM10.500 10.500l3 3",
  copy: "M5.500 5.500h7v7h-7zM3.500 10.500v-7h7",
  columns: "M2.500 3h11v10h-11zM6.200 3v10M9.800 3v10",
} as const;

export function icon(name: keyof typeof ICONS): SVGSVGElement {
  return s(
    "svg",
    { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true", class: "icon" },
    s("path", { d: ICONS[name], fill: "none", stroke: "currentColor", "stroke-width": 1.4, "stroke-linecap": "round", "stroke-linejoin": "round" }),
  );
}

/** A button with a picture, and a name that is read out. */
export function iconButton(name: keyof typeof ICONS, label: string, press: () => void, text = ""): HTMLButtonElement {
  return h("button", { type: "button", class: text ? "button" : "button icon-button", "aria-label": text ? null : label, title: label, onclick: press }, icon(name), text || null);
}
