/** A drawing as a file of its own. */

import { COLOURS, standalone } from "./style";
import { attributes, mark } from "./svg";

/** Classes and attributes that say what a visitor is doing, not what is drawn. */
const PASSING = ["is-hovered"];

/**
 * Standalone SVG text of a drawing. Names are escaped by the serializer; colours are those of the page as it is
 * now, read off `beside`; what only a visitor needs (marks that take the pointer or the keyboard) is left out. A
 * drawing that is panned and zoomed gets the transform that shows all of it.
 */
export function exported(
  drawn: SVGSVGElement,
  beside: HTMLElement,
  kind: string,
  size: { width: number; height: number; transform?: string },
): string {
  const { width, height } = size;
  const copy = drawn.cloneNode(true) as SVGSVGElement;
  const viewport = copy.querySelector("[data-viewport]");
  if (viewport && size.transform) attributes(viewport, { transform: size.transform });
  for (const element of copy.querySelectorAll("[data-passing]")) element.remove();
  for (const element of copy.querySelectorAll("*")) {
    element.classList.remove(...PASSING);
    if (!element.getAttribute("class")) element.removeAttribute("class");
    for (const name of element.getAttributeNames()) {
      if (name === "tabindex" || name === "style" || name.startsWith("data-") || name.startsWith("aria-")) {
        element.removeAttribute(name);
      }
    }
    if (element.getAttribute("role")) element.removeAttribute("role");
  }
  attributes(copy, {
    xmlns: "http://www.w3.org/2000/svg",
    class: `mm-svg ${kind}`,
    role: "img",
    style: null,
    tabindex: null,
    width,
    height,
    viewBox: `0 0 ${Math.round(width)} ${Math.round(height)}`,
  });
  // The class of the kind is looked for within the file, as on the page.
  const whole = mark("g", { class: kind });
  whole.append(...[...copy.childNodes].filter((node) => !["title", "desc"].includes(node.nodeName)));
  const style = mark("style");
  style.textContent = standalone(colours(beside));
  copy.append(style, mark("rect", { class: "mm-back", width: "100%", height: "100%" }), whole);
  return `${new XMLSerializer().serializeToString(copy)}\n`;
}

/** What the page's custom properties come to as colours. */
function colours(beside: HTMLElement): (name: string) => string {
  const found = new Map<string, string>();
  const probe = document.createElement("span");
  beside.append(probe);
  for (const name of COLOURS) {
    probe.style.color = `var(--mm-${name})`;
    found.set(name, getComputedStyle(probe).color);
  }
  probe.remove();
  return (name) => found.get(name) ?? "currentColor";
}
