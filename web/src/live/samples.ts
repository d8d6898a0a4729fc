/** A numeric value of a property as it arrived. Time in milliseconds since the epoch. */
export interface Point {
  time: number;
  value: number;
}

/** Hands each numeric value of one twin to the chart that draws it, as it arrives: none is kept here. */
export class Samples {
  private readonly listeners = new Map<string, Set<(point: Point) => void>>();

  push(property: string, point: Point) {
    for (const listener of [...(this.listeners.get(property) ?? [])]) listener(point);
  }

  subscribe(property: string, listener: (point: Point) => void): () => void {
    let set = this.listeners.get(property);
    if (!set) this.listeners.set(property, (set = new Set()));
    set.add(listener);
    return () => {
      set.delete(listener);
    };
  }
}
