/** Marks that the keyboard reaches: one stop of the Tab key, from which the drawing's own keys go on. */

export class Roving {
  private current: Element | null = null;

  /** The mark that Tab leads to; the first one given if there was none or it is gone. */
  among(marks: readonly Element[]): void {
    for (const mark of marks) {
      if (mark !== this.current) mark.setAttribute("tabindex", "-1");
    }
    if (this.current === null || !marks.includes(this.current)) this.current = marks[0] ?? null;
    this.current?.setAttribute("tabindex", "0");
  }

  /** Moves Tab's stop to a mark, and the focus too where `now` says so. */
  to(mark: Element, now = true): void {
    if (mark !== this.current) {
      this.current?.setAttribute("tabindex", "-1");
      this.current = mark;
      mark.setAttribute("tabindex", "0");
    }
    if (now) (mark as SVGElement).focus({ preventScroll: false });
  }
}
