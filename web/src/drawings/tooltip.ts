/** A note beside the pointer or the focused mark. */

import { html } from "./svg";

/** What a note says: a title, and names with their values. */
export interface Note {
  title: string;
  rows: readonly (readonly [string, string])[];
}

/** A note as one sentence, for those who hear it. */
export function spoken(note: Note): string {
  return [note.title, ...note.rows.map(([name, value]) => (name ? `${name} ${value}` : value))].join(", ");
}

const APART = 14;

export class Tooltip {
  readonly element = html("div", { class: "mm-tip", role: "tooltip", hidden: "" });

  /** `within` is what the note must not leave. */
  constructor(private readonly within: HTMLElement) {}

  /** Shows a note near a point of the viewport. */
  show(note: Note, clientX: number, clientY: number): void {
    const list = html("dl");
    for (const [name, value] of note.rows) list.append(html("dt", {}, name), html("dd", {}, value));
    this.element.replaceChildren(html("div", { class: "mm-tip-title" }, note.title), list);
    this.element.hidden = false;
    const bounds = this.within.getBoundingClientRect();
    const size = this.element.getBoundingClientRect();
    const x = clientX - bounds.left;
    const y = clientY - bounds.top;
    const left = x + APART + size.width > bounds.width ? x - APART - size.width : x + APART;
    const top = y + APART + size.height > bounds.height ? y - APART - size.height : y + APART;
    this.element.style.transform = `translate(${clamp(left, bounds.width - size.width)}px, ${clamp(top, bounds.height - size.height)}px)`;
  }

  hide(): void {
    this.element.hidden = true;
  }
}

function clamp(value: number, most: number): number {
  return Math.round(Math.max(0, Math.min(value, most)));
}
