import { useEffect, useRef } from "react";

/** Whether the keys typed now belong to a field. */
function typing(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName)) &&
    !(target instanceof HTMLInputElement && ["checkbox", "radio", "button"].includes(target.type))
  );
}

/**
 * Binds keys, or pairs of keys typed within a second (`g t`), while the component is shown. Nothing happens while
 * somebody types, a dialogue is open, or a modifier is held.
 */
export function useShortcuts(bindings: Record<string, () => void>) {
  const latest = useRef(bindings);
  useEffect(() => {
    latest.current = bindings;
  });
  useEffect(() => {
    let before = "";
    let at = 0;
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
      if (document.querySelector('[role="dialog"]')) return;
      const pair = Date.now() - at < 1000 ? `${before} ${event.key}` : "";
      const action = latest.current[pair] ?? latest.current[event.key];
      before = event.key;
      at = Date.now();
      if (!action) return;
      event.preventDefault();
      action();
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  }, []);
}
