/** What all drawings share: an element that fits its container, a bar above it, a note, and one SVG. */

import { exported } from "./export";
import { install } from "./style";
import { attributes, html, mark } from "./svg";
import { Tooltip, type Note } from "./tooltip";

/** The size of a drawing that is not shown yet. */
const USUAL = { width: 960, height: 560 };

let made = 0;

export class Frame {
  readonly element: HTMLElement;
  readonly bar = html("div", { class: "mm-bar" });
  readonly canvas = html("div", { class: "mm-canvas" });
  readonly svg: SVGSVGElement;
  readonly tip: Tooltip;
  width = USUAL.width;
  height = USUAL.height;

  private readonly title = mark("title");
  private readonly desc = mark("desc");
  private readonly watcher: ResizeObserver;

  /** `kind` is the drawing's class; `resized` is called when the container's size has changed. */
  constructor(
    private readonly kind: string,
    role: string,
    resized: () => void,
  ) {
    install(document);
    made += 1;
    const [title, desc] = [`mm-title-${made}`, `mm-desc-${made}`];
    attributes(this.title, { id: title });
    attributes(this.desc, { id: desc });
    this.svg = mark("svg", { class: "mm-svg", role, "aria-labelledby": title, "aria-describedby": desc });
    this.svg.append(this.title, this.desc);
    this.canvas.append(this.svg);
    this.element = html("div", { class: `mm-drawing ${kind}` }, this.bar, this.canvas);
    this.tip = new Tooltip(this.element);
    this.element.append(this.tip.element);
    this.watcher = new ResizeObserver(() => {
      const { clientWidth, clientHeight } = this.canvas;
      if (clientWidth === 0 || clientHeight === 0) return;
      if (clientWidth === this.width && clientHeight === this.height) return;
      this.width = clientWidth;
      this.height = clientHeight;
      resized();
    });
    this.watcher.observe(this.canvas);
  }

  /** What the drawing is called and shows, for those who hear it. */
  describe(title: string, desc: string): void {
    this.title.textContent = title;
    this.desc.textContent = desc;
  }

  /** Shows a note at a mark, or at the pointer where there is one. */
  note(note: Note, at: Element, pointer?: PointerEvent): void {
    if (pointer) {
      this.tip.show(note, pointer.clientX, pointer.clientY);
      return;
    }
    const box = at.getBoundingClientRect();
    this.tip.show(note, Math.min(box.right, box.left + 60), Math.min(box.bottom, box.top + 30));
  }

  /** The drawing as a file, of a size and, where it is panned and zoomed, at a place that shows all of it. */
  exported(size: { width?: number; height?: number; transform?: string } = {}): string {
    return exported(this.svg, this.element, this.kind, { width: this.width, height: this.height, ...size });
  }

  destroy(): void {
    this.watcher.disconnect();
    this.element.remove();
  }
}
