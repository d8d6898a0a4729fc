import { useCallback } from "react";
import { useSearchParams } from "wouter";

/** One word of the address, such as `?project=hotel`, and how to change it: a view can be kept and sent. */
export function useWord(name: string): [string, (value: string) => void] {
  const [words, setWords] = useSearchParams();
  const set = useCallback(
    (value: string) =>
      setWords(
        (before) => {
          const next = new URLSearchParams(before);
          if (value) next.set(name, value);
          else next.delete(name);
          return next;
        },
        { replace: true },
      ),
    [setWords, name],
  );
  return [words.get(name) ?? "", set];
}
