/** Which rows the table shows, in which order: the tree as far as it is opened, or a flat list. */

import type { Column } from "../core/columns";
import type { Figures } from "../core/figures";
import type { Tree } from "../core/tree";

/** A row is a module, or a single module (`instance`) below the family that it belongs to. */
export interface Row {
  module: number;
  instance: number;
  level: number;
  key: string;
  expandable: boolean;
  expanded: boolean;
  /** Whether its single modules can be listed, and are. */
  members: number;
  unfolded: boolean;
  setSize: number;
  position: number;
}

export class RowList {
  readonly expanded = new Set<string>();
  readonly unfolded = new Set<number>();

  constructor(private readonly tree: Tree) {
    this.openTo(40);
  }

  /** Opens level after level while there are not more rows than so many. */
  openTo(most: number): void {
    let level = [...this.tree.roots];
    let rows = level.length;
    while (level.length) {
      const next = level.flatMap((place) => this.tree.children[place]!);
      if (rows + next.length > most) break;
      for (const place of level) if (this.tree.children[place]!.length) this.expanded.add(this.key(place));
      rows += next.length;
      level = next;
    }
  }

  openAll(): void {
    this.tree.modules.forEach((_, place) => {
      if (this.tree.children[place]!.length) this.expanded.add(this.key(place));
    });
  }

  closeAll(): void {
    this.expanded.clear();
    this.unfolded.clear();
    for (const root of this.tree.roots) this.expanded.add(this.key(root));
  }

  key(module: number, instance = -1): string {
    return instance < 0 ? `m${module}` : `i${instance}`;
  }

  /** Opens what is above a module, or above a single one, so that it is shown. */
  reveal(id: string): string | null {
    const place = this.tree.family(id);
    if (place < 0) return null;
    const path = this.tree.path(place);
    const isInstance = this.tree.place(id) < 0;
    for (const above of path.slice(0, -1)) this.expanded.add(this.key(above));
    if (!isInstance) return this.key(place);
    const instance = this.tree.instance(id);
    this.unfolded.add(place);
    return this.key(place, instance);
  }

  /** All rows that are shown now. */
  rows(order: Order): Row[] {
    const found: Row[] = [];
    const search = order.search.trim().toLowerCase();
    if (order.flat || search) {
      const places = this.tree.modules.map((_, place) => place).filter((place) => !search || this.matches(place, search));
      this.sorted(places, order).forEach((place, at) => {
        const row = this.row(place, 0, places.length, at + 1, true);
        found.push(row, ...(row.unfolded ? this.unfoldedRows(row) : []));
      });
      if (search) this.addInstances(found, search);
      return found;
    }
    const waiting = this.siblings(this.tree.roots, 0, order);
    while (waiting.length) {
      const row = waiting.pop()!;
      found.push(row);
      if (row.unfolded) found.push(...this.unfoldedRows(row));
      if (row.expanded) waiting.push(...this.siblings(this.tree.children[row.module]!, row.level + 1, order));
    }
    return found;
  }

  private siblings(places: readonly number[], level: number, order: Order): Row[] {
    return this.sorted([...places], order)
      .map((place, at) => this.row(place, level, places.length, at + 1, false))
      .reverse();
  }

  private row(place: number, level: number, setSize: number, position: number, isFlat: boolean): Row {
    const key = this.key(place);
    const expandable = !isFlat && this.tree.children[place]!.length > 0;
    return {
      module: place,
      instance: -1,
      level,
      key,
      expandable,
      expanded: expandable && this.expanded.has(key),
      members: this.tree.members(place).length,
      unfolded: this.unfolded.has(place),
      setSize,
      position,
    };
  }

  /** Single modules of a family with what they call, as far as it is opened. */
  private unfoldedRows(family: Row): Row[] {
    const found: Row[] = [];
    const members = this.tree.members(family.module);
    const waiting = this.instances(members, family.level + 1);
    while (waiting.length) {
      const row = waiting.pop()!;
      found.push(row);
      if (row.expanded) waiting.push(...this.instances(this.tree.calledBy(row.instance), row.level + 1));
    }
    return found;
  }

  private instances(places: readonly number[], level: number): Row[] {
    return places
      .map((instance, at) => {
        const key = this.key(0, instance);
        const expandable = this.tree.calledBy(instance).length > 0;
        return {
          module: this.tree.instances!.family[instance]!,
          instance,
          level,
          key,
          expandable,
          expanded: expandable && this.expanded.has(key),
          members: 0,
          unfolded: false,
          setSize: places.length,
          position: at + 1,
        };
      })
      .reverse();
  }

  private matches(place: number, search: string): boolean {
    const row = this.tree.modules[place]!;
    return row.id.toLowerCase().includes(search) || row.class.toLowerCase().includes(search);
  }

  /** Single modules that a search finds, where it finds few of them. */
  private addInstances(found: Row[], search: string): void {
    const ids = this.tree.instances?.id ?? [];
    const hits: number[] = [];
    for (let place = 0; place < ids.length && hits.length < MOST_HITS; place++) {
      if (this.tree.place(ids[place]!) < 0 && ids[place]!.toLowerCase().includes(search)) hits.push(place);
    }
    for (const row of this.instances(hits, 0).reverse()) found.push({ ...row, expandable: false, expanded: false });
  }

  private sorted(places: number[], order: Order): number[] {
    const { column, figures, stage, descending } = order;
    if (!column) return places;
    const sign = descending ? -1 : 1;
    const modules = this.tree.modules;
    if (column.number) {
      const values = new Map(places.map((place) => [place, column.number!(figures, place, stage)]));
      return places.sort((a, b) => compare(values.get(a), values.get(b), sign) || a - b);
    }
    const texts = new Map(places.map((place) => [place, column.text!(modules[place]!, figures, place, stage)]));
    return places.sort((a, b) => sign * texts.get(a)!.localeCompare(texts.get(b)!, "en") || a - b);
  }
}

export interface Order {
  column: Column | undefined;
  descending: boolean;
  flat: boolean;
  search: string;
  stage: string;
  figures: Figures;
}

/** More single modules than these are not listed for a search. */
const MOST_HITS = 500;

/** What is not known comes last, whichever way. */
function compare(a: number | undefined, b: number | undefined, sign: number): number {
  if (a === undefined || b === undefined) return (a === undefined ? 1 : 0) - (b === undefined ? 1 : 0);
  return a === b ? 0 : sign * (a < b ? -1 : 1);
}
