import { useCallback, useEffect, useState } from "react";

import { useProjects } from "../model/catalog";
import { homeOf } from "../model/id";
import { useWord } from "./address";

const slot = "pollux.project";

function remember(project: string) {
  if (project) sessionStorage.setItem(slot, project);
  else sessionStorage.removeItem(slot);
}

/** The project that the address names, or none: then the room is of all projects. The tab remembers the last one. */
export function useProject(): [string, (project: string) => void] {
  const [word, setWord] = useWord("project");
  useEffect(() => {
    if (word) remember(word);
  }, [word]);
  const choose = useCallback(
    (project: string) => {
      remember(project);
      setWord(project);
    },
    [setWord],
  );
  return [word, choose];
}

/** The project of what is of one, where none was chosen; empty until it is known which there are. */
export function useHome(): string {
  const { data, isPending } = useProjects();
  return isPending ? "" : homeOf((data ?? []).map((p) => p.name));
}

/** The project of a room that is of one: the address's, or else the one that was chosen last, in whichever room; empty: none was. */
export function useOneProject(): [string, (project: string) => void] {
  const [word, setWord] = useProject();
  const [last, setLast] = useState(() => sessionStorage.getItem(slot) ?? "");
  const choose = useCallback(
    (project: string) => {
      setLast(project);
      setWord(project);
    },
    [setWord],
  );
  return [word || last, choose];
}
