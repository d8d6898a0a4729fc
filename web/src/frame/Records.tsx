import { Loader, TextInput } from "@mantine/core";
import { useState, type ReactNode } from "react";

import { SearchIcon } from "../shell/icons";

/** So many are seen at a glance; among more one is found by what it is called. */
const glance = 20;

interface Props<T> {
  title: string;
  /** Undefined: it is being asked for, or could not be had. */
  list: T[] | undefined;
  error: unknown;
  /** What stands where there are none. */
  none?: string;
  /** What a record is found by. */
  words: (record: T) => string;
  /** The line of a record, the `at`-th that is shown. */
  children: (record: T, at: number) => ReactNode;
}

/** The records of a room, in a panel at its side. */
export function Records<T>({ title, list, error, none = "None yet.", words, children }: Props<T>) {
  const [text, setText] = useState("");
  const wanted = text.trim().toLowerCase();
  const found = wanted ? list?.filter((x) => words(x).toLowerCase().includes(wanted)) : list;
  return (
    <section className="panel" aria-label={title}>
      <h2>
        {title}
        {((list?.length ?? 0) > glance || text) && (
          <span className="panel-tools">
            <TextInput aria-label={`Find in ${title}`} placeholder="Find" leftSection={<SearchIcon size={14} />} value={text} w={150} onChange={(e) => setText(e.currentTarget.value)} />
          </span>
        )}
      </h2>
      {!list && !error && <Loader size="sm" m="md" aria-label="Loading" />}
      {found?.length === 0 && <p className="muted pad">{wanted ? "None is called so." : none}</p>}
      <ul className="list bounded">{found?.map(children)}</ul>
    </section>
  );
}
