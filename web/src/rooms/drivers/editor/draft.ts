/** What is being written: a driver's source and its files of tests. */
export interface Draft {
  source: string;
  tests: TestFile[];
}

export interface TestFile {
  name: string;
  text: string;
}

const keyOf = (driver: string) => `pollux.draft.${driver}`;

/** The draft that was left behind, if there is one. */
export function kept(driver: string): Draft | undefined {
  try {
    const raw = localStorage.getItem(keyOf(driver));
    return raw ? (JSON.parse(raw) as Draft) : undefined;
  } catch {
    return undefined;
  }
}

/** Keeps a draft in this browser; a browser that keeps nothing is no reason to fail. */
export function keep(driver: string, draft: Draft | undefined): void {
  try {
    if (draft) localStorage.setItem(keyOf(driver), JSON.stringify(draft));
    else localStorage.removeItem(keyOf(driver));
  } catch {
    // full, or forbidden
  }
}

export function same(a: Draft, b: Draft): boolean {
  return (
    a.source === b.source &&
    a.tests.length === b.tests.length &&
    a.tests.every((t, i) => t.name === b.tests[i]?.name && t.text === b.tests[i].text)
  );
}
