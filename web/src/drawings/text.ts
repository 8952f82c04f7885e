/** Text as it is drawn: what can be written into any document, how wide it is about, and how it is cut to fit. */

/** Text that every document can hold: control characters and halves of characters are replaced. */
export function plain(text: unknown): string {
  return String(text ?? "").replace(UNWRITABLE, "\uFFFD");
}

// In the order of the alternatives: C0, DEL and C1, line separators and directions that reorder what follows,
// non-characters, and surrogates without their other half.
const UNWRITABLE =
  /[\u0000-\u001F\u007F-\u009F\u2028\u2029\u202A-\u202E\u2066-\u2069\uFFFE\uFFFF]|[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g;

/** The fonts of the drawings. */
export const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

export type Weight = 400 | 600;

let ruler: CanvasRenderingContext2D | null | undefined;
const known = new Map<string, number>();

/** The width of a text in pixels; where no page measures it an estimate, rather too much than too little. */
export function textWidth(text: string, size: number, weight: Weight = 400): number {
  if (ruler === undefined) ruler = typeof document === "undefined" ? null : document.createElement("canvas").getContext("2d");
  if (ruler === null) return estimated(text, weight) * size;
  const key = `${weight} ${size} ${text}`;
  let width = known.get(key);
  if (width === undefined) {
    if (known.size > 20_000) known.clear();
    ruler.font = `${weight} ${size}px ${FONT}`;
    width = ruler.measureText(text).width;
    known.set(key, width);
  }
  return width;
}

function estimated(text: string, weight: Weight): number {
  let ems = 0;
  for (const letter of text) ems += letterWidth(letter);
  return weight > 400 ? ems * 1.1 : ems;
}

function letterWidth(letter: string): number {
  if (letter > "\u2E7F") return 1.05;
  if ("iljI.,:;|'!".includes(letter)) return 0.33;
  if ("ft()[]r-/ ·".includes(letter)) return 0.42;
  if ("mwMW@%…×".includes(letter)) return 0.95;
  if (letter >= "A" && letter <= "Z") return 0.72;
  return 0.61;
}

/** A text cut to a width, with an ellipsis at the end or, as names differ at both ends, in the middle. */
export function fitted(
  text: string,
  width: number,
  size: number,
  where: "end" | "middle" = "end",
  weight: Weight = 400,
): string {
  const clean = plain(text);
  if (textWidth(clean, size, weight) <= width) return clean;
  const letters = Array.from(clean);
  let low = 0;
  let high = letters.length;
  while (low < high) {
    const kept = Math.ceil((low + high) / 2);
    if (textWidth(cut(letters, kept, where), size, weight) <= width) low = kept;
    else high = kept - 1;
  }
  return low === 0 ? "" : cut(letters, low, where);
}

function cut(letters: string[], kept: number, where: "end" | "middle"): string {
  if (where === "end") return letters.slice(0, kept).join("").trimEnd() + "…";
  const tail = Math.floor(kept / 2);
  return letters.slice(0, kept - tail).join("") + "…" + letters.slice(letters.length - tail).join("");
}
