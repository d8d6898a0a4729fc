import { useCallback, useLayoutEffect, useRef } from "react";

/** Keeps a list at its end while new lines arrive, unless somebody scrolled up to read. */
export function useFollow(newest: unknown) {
  const ref = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const onScroll = useCallback(() => {
    const box = ref.current;
    if (box) atEnd.current = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
  }, []);
  useLayoutEffect(() => {
    const box = ref.current;
    if (box && atEnd.current) box.scrollTop = box.scrollHeight;
  }, [newest]);
  return [ref, onScroll] as const;
}
