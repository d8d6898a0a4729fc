import { Button, CopyButton } from "@mantine/core";

/** A line for a terminal; a click on it selects all of it. */
export function Line({ text, label }: { text: string; label: string }) {
  return (
    <div className="line">
      <pre aria-label={label}>{text}</pre>
      {/* Without a secure context the browser keeps its clipboard to itself. */}
      {window.isSecureContext && (
        <CopyButton value={text}>
          {({ copied, copy }) => (
            <Button variant="default" size="compact-xs" onClick={copy}>
              {copied ? "Copied" : "Copy"}
            </Button>
          )}
        </CopyButton>
      )}
    </div>
  );
}
