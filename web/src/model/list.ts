import { count } from "./value";

/** More records than a list in a dialogue is for; beyond it the console shows the first ones. */
const most = 5000;

/** Every page of a list, one after the other, up to `most` records. */
export async function all<T>(page: (token: string) => Promise<{ items: T[]; next: string }>): Promise<T[]> {
  const items: T[] = [];
  for (let token = ""; ; ) {
    const got = await page(token);
    items.push(...got.items);
    token = got.next;
    if (!token || items.length >= most) return items;
  }
}

/** How many a list has, as a sentence says it; of one that ends at `most` there may be more. */
export function counted({ length }: { length: number }, one: string): string {
  return `${count(length)}${length >= most ? " and more" : ""} ${one}${length === 1 ? "" : "s"}`;
}
