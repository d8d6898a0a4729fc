import { Textarea } from "@mantine/core";
import { useEffect, useRef, type ReactNode } from "react";

import { indexOf, mistakeOf } from "../model/cel";

interface Props {
  label: string;
  description?: ReactNode;
  placeholder?: string;
  value: string;
  onChange: (value: string) => void;
  /** What the node said of it; its place is shown under the text. */
  said?: string;
}

/** A CEL expression, with its mistake shown at its place. */
export function Cel({ label, description, placeholder, value, onChange, said }: Props) {
  const box = useRef<HTMLTextAreaElement>(null);
  const mistake = said === undefined ? undefined : mistakeOf(said);
  const latest = useRef(value);
  useEffect(() => {
    latest.current = value;
  });
  useEffect(() => {
    const found = said === undefined ? undefined : mistakeOf(said);
    if (!found || !box.current) return;
    const at = indexOf(latest.current, found);
    box.current.focus();
    box.current.setSelectionRange(at, at);
  }, [said]);
  const line = mistake && value.split("\n")[mistake.line - 1];
  return (
    <Textarea
      ref={box}
      label={label}
      description={description}
      placeholder={placeholder}
      autosize
      minRows={1}
      maxRows={10}
      spellCheck={false}
      classNames={{ input: "cel" }}
      value={value}
      onChange={(e) => onChange(e.currentTarget.value)}
      error={
        said === undefined ? undefined : mistake ? (
          <span role="alert" className="cel-error">
            Line {mistake.line}, column {mistake.column}: {mistake.text}
            <code aria-hidden="true">{`${line ?? ""}\n${" ".repeat(Math.max(0, mistake.column - 1))}^`}</code>
          </span>
        ) : (
          <span role="alert">{said}</span>
        )
      }
    />
  );
}
