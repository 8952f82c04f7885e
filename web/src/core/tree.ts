/** The module tree: who is below whom, and single modules of families where the call graph has them. */

import type { Instances, ModuleRow, PageData } from "./data";

export class Tree {
  readonly children: number[][];
  readonly roots: number[] = [];
  readonly depth: Int32Array;
  private readonly places: Map<string, number>;
  readonly instances: Instances | null;
  private readonly instancesOf = new Map<number, number[]>();
  private readonly instancesBelow = new Map<number, number[]>();
  private readonly instancePlaces = new Map<string, number>();

  constructor(
    readonly modules: ModuleRow[],
    instances: Partial<Instances> | undefined,
  ) {
    this.children = modules.map(() => []);
    this.depth = new Int32Array(modules.length);
    modules.forEach((row, place) => {
      if (row.parent === null) this.roots.push(place);
      else this.children[row.parent]!.push(place);
    });
    const waiting = [...this.roots];
    while (waiting.length) {
      const place = waiting.pop()!;
      for (const child of this.children[place]!) {
        this.depth[child] = this.depth[place]! + 1;
        waiting.push(child);
      }
    }
    this.places = new Map(modules.map((row, place) => [row.id, place]));
    this.instances = instances?.id ? (instances as Instances) : null;
    this.instances?.id.forEach((id, place) => {
      this.instancePlaces.set(id, place);
      put(this.instancesOf, this.instances!.family[place]!, place);
      put(this.instancesBelow, this.instances!.parent[place]!, place);
    });
  }

  static of(data: PageData): Tree {
    return new Tree(data.modules, data.instances);
  }

  place(id: string | null): number {
    return id === null ? -1 : (this.places.get(id) ?? -1);
  }

  /** The place of a single module; -1 where the id is a family's or unknown. */
  instance(id: string | null): number {
    return id === null ? -1 : (this.instancePlaces.get(id) ?? -1);
  }

  /** The family that an id names or belongs to. */
  family(id: string | null): number {
    const place = this.place(id);
    if (place >= 0) return place;
    const instance = this.instance(id);
    return instance < 0 ? -1 : this.instances!.family[instance]!;
  }

  /** Single modules of a family, where it stands for several. */
  members(place: number): number[] {
    const found = this.instancesOf.get(place) ?? [];
    return found.length > 1 ? found : [];
  }

  /** Single modules that a single module calls. */
  calledBy(instance: number): number[] {
    return this.instancesBelow.get(instance) ?? [];
  }

  /** A module and those above it, the topmost first. */
  path(place: number): number[] {
    const found: number[] = [];
    for (let at: number | null = place; at !== null && at >= 0; at = this.modules[at]!.parent) found.push(at);
    return found.reverse();
  }
}

function put(lists: Map<number, number[]>, key: number, value: number): void {
  const found = lists.get(key);
  if (found) found.push(value);
  else lists.set(key, [value]);
}
