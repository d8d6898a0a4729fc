import { useEffect, useRef } from "react";

import { unitSymbol } from "./unit";

/** Text that lights up for a moment when it changes, unless the system asks for less motion. */
export function Flash({ text, unit }: { text: string; unit?: string }) {
  const box = useRef<HTMLElement>(null);
  const before = useRef(text);
  useEffect(() => {
    if (before.current === text) return;
    before.current = text;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    box.current?.animate([{ backgroundColor: "var(--flash)" }, { backgroundColor: "transparent" }], 1200);
  }, [text]);
  return (
    <b ref={box}>
      {text}
      {unit && <small> {unitSymbol(unit)}</small>}
    </b>
  );
}
