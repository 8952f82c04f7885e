/** The page as the model sees it: its outline with the grid of crops over it. */

import { h, s } from "../core/dom";
import type { Context } from "../core/context";
import { counted } from "../core/format";

const BOX = 92;

export function pageOutline(context: Context): HTMLElement | null {
  const answer = context.answer();
  const described = context.data.report?.described.pages?.[0];
  const grid = answer?.grid ?? described?.grid;
  if (!grid) return null;
  const size = answer ? answer.size : described?.width && described.height ? [described.width, described.height] : null;
  const pages = answer?.pages ?? context.data.report?.described.pages?.length ?? 1;
  const [columns, rows] = grid;
  const [width, height] = size ?? [columns, rows];
  const scale = BOX / Math.max(width!, height!);
  const [w, ht] = [Math.max(8, width! * scale), Math.max(8, height! * scale)];
  const crops = columns * rows;
  const words = [
    size ? `${size[0]} × ${size[1]} px` : "page size not given",
    crops > 1 ? `${columns} × ${rows} crops + whole` : "whole page, no crops",
    ...(pages !== 1 ? [counted(pages, "page")] : []),
  ];
  const picture = s(
    "svg",
    { viewBox: `-1 -1 ${w + 9} ${ht + 9}`, width: w + 9, height: ht + 9, role: "img", "aria-label": `Page: ${words.join(", ")}` },
    pages > 1 && s("rect", { x: 6, y: 6, width: w, height: ht, rx: 2, class: "outline-behind" }),
    s("rect", { x: 0, y: 0, width: w, height: ht, rx: 2, class: "outline-page" }),
    ...textLines(w, ht),
    ...lines(columns, w, ht, true),
    ...lines(rows, w, ht, false),
    crops > 1 && s("rect", { x: 0, y: 0, width: w, height: ht, rx: 2, class: "outline-edge" }),
  );
  return h("figure", { class: "outline" }, picture, h("figcaption", {}, ...words.map((word) => h("div", {}, word))));
}

/** Grey lines where a page has its text. */
function textLines(width: number, height: number): SVGElement[] {
  const found: SVGElement[] = [];
  const rows = Math.max(2, Math.floor(height / 8) - 1);
  for (let row = 0; row < rows; row++) {
    const y = 7 + row * 8;
    const share = row === 0 ? 0.45 : row % 5 === 4 ? 0.5 : 0.82 - (row % 3) * 0.04;
    found.push(s("line", { x1: width * 0.09, x2: width * (0.09 + share), y1: y, y2: y, class: "outline-text" }));
  }
  return found;
}

function lines(parts: number, width: number, height: number, upright: boolean): SVGElement[] {
  return Array.from({ length: Math.max(0, parts - 1) }, (_, index) => {
    const at = ((index + 1) / parts) * (upright ? width : height);
    return upright
      ? s("line", { x1: at, x2: at, y1: 0, y2: height, class: "outline-grid" })
      : s("line", { x1: 0, x2: width, y1: at, y2: at, class: "outline-grid" });
  });
}
