/** Places for labels beside their marks, so that no label covers another or a mark. */

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Wanted {
  /** Centre and radius of the mark. */
  x: number;
  y: number;
  radius: number;
  width: number;
  height: number;
}

export function overlap(a: Box, b: Box): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

/**
 * A box for each label in the order of their importance, or null where there is no room for one.
 *
 * Places are tried from beside the mark outwards; what is further away wants a leader line.
 */
export function placed(wanted: readonly Wanted[], taken: readonly Box[], bounds: Box): (Box | null)[] {
  const occupied = [...taken];
  return wanted.map((label) => {
    for (const box of candidates(label)) {
      const inside =
        box.x >= bounds.x &&
        box.y >= bounds.y &&
        box.x + box.width <= bounds.x + bounds.width &&
        box.y + box.height <= bounds.y + bounds.height;
      if (inside && !occupied.some((other) => overlap(box, other))) {
        occupied.push(box);
        return box;
      }
    }
    return null;
  });
}

const DISTANCES = [4, 14, 26];

function* candidates({ x, y, radius, width, height }: Wanted): Generator<Box> {
  for (const distance of DISTANCES) {
    const away = radius + distance;
    const slant = away * 0.72;
    yield { x: x + away, y: y - height / 2, width, height };
    yield { x: x - away - width, y: y - height / 2, width, height };
    yield { x: x + slant, y: y - slant - height, width, height };
    yield { x: x - slant - width, y: y - slant - height, width, height };
    yield { x: x + slant, y: y + slant, width, height };
    yield { x: x - slant - width, y: y + slant, width, height };
    yield { x: x - width / 2, y: y - away - height, width, height };
    yield { x: x - width / 2, y: y + away, width, height };
  }
}
