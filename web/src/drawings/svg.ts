/** Elements of a drawing. Text is set as text and attributes as attributes, so that no name can become markup. */

import { plain } from "./text";

const SVG = "http://www.w3.org/2000/svg";

export type Attributes = Record<string, string | number | null>;

/** Sets attributes; null removes one. Numbers are rounded to a hundredth of a pixel. */
export function attributes<E extends Element>(element: E, values: Attributes): E {
  for (const [name, value] of Object.entries(values)) {
    if (value === null) element.removeAttribute(name);
    else element.setAttribute(name, typeof value === "number" ? rounded(value) : plain(value));
  }
  return element;
}

/** A number as SVG has it; what is no number is 0, since one wrong coordinate hides a whole path. */
export function rounded(value: number): string {
  return Number.isFinite(value) ? String(Math.round(value * 100) / 100) : "0";
}

/** An SVG element with attributes and children; a string is a text. */
export function mark<K extends keyof SVGElementTagNameMap>(
  name: K,
  values: Attributes = {},
  ...children: (Node | string)[]
): SVGElementTagNameMap[K] {
  const element = attributes(document.createElementNS(SVG, name), values);
  element.append(...children.map(written));
  return element;
}

/** An HTML element with attributes and children. */
export function html<K extends keyof HTMLElementTagNameMap>(
  name: K,
  values: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = attributes(document.createElement(name), values);
  element.append(...children.map(written));
  return element;
}

/**
 * Puts an element at a place and scale. A style says it besides the attribute, since only styles are animated; in
 * exported files the attribute stays.
 */
export function put(element: SVGElement, x: number, y: number, scale = 1): void {
  const [left, top, size] = [rounded(x), rounded(y), Number.isFinite(scale) ? scale.toFixed(3) : "1"];
  element.setAttribute("transform", scale === 1 ? `translate(${left} ${top})` : `translate(${left} ${top}) scale(${size})`);
  element.style.transform = `translate(${left}px, ${top}px) scale(${size})`;
}

/** Gives a rectangle a width, animated as places are. */
export function widen(element: SVGElement, width: number): void {
  element.setAttribute("width", rounded(width));
  element.style.width = `${rounded(width)}px`;
}

/** Puts children in an order and leaves alone what is in place: what is taken out loses its focus and its motion. */
export function arrange(parent: Element, children: readonly Element[]): void {
  children.forEach((child, index) => {
    const there = parent.children[index] ?? null;
    if (there !== child) parent.insertBefore(child, there);
  });
}

/** A button that a keyboard reaches; one without a word is called by its title. */
export function button(label: string, title: string, press: () => void, values: Attributes = {}): HTMLButtonElement {
  const name = /\p{Letter}/u.test(label) ? null : title;
  const element = html("button", { type: "button", class: "mm-button", title, "aria-label": name, ...values }, label);
  element.addEventListener("click", press);
  return element;
}

function written(child: Node | string): Node | string {
  return typeof child === "string" ? plain(child) : child;
}
