import { Button, CloseButton } from "@mantine/core";
import { useRef, useState, type DragEvent } from "react";
import { Link } from "wouter";

import { UploadIcon } from "../../shell/icons";
import type { Uploads } from "./useUploads";

/** Takes WASM files by drag and drop, or by the browser's file dialogue, and tells what became of each. */
export function DropZone({ uploads }: { uploads: Uploads }) {
  const [over, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const drag = (event: DragEvent, on: boolean) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    setOver(on);
  };
  return (
    <section
      className="drop"
      aria-label="Upload drivers"
      data-over={over || undefined}
      onDragEnter={(e) => drag(e, true)}
      onDragOver={(e) => drag(e, true)}
      onDragLeave={(e) => {
        if (!e.currentTarget.contains(e.relatedTarget as Node | null)) drag(e, false);
      }}
      onDrop={(e) => {
        drag(e, false);
        uploads.send(e.dataTransfer.files);
      }}
    >
      <div className="drop-target">
        <UploadIcon size={22} />
        <span>
          <b>Drop driver files here</b>
          <small className="muted">.wasm or .js, at most 32 MiB each; verified before anything uses them</small>
        </span>
        <Button variant="default" onClick={() => input.current?.click()}>
          Choose files
        </Button>
        <input
          ref={input}
          type="file"
          accept=".wasm,.js,application/wasm,text/javascript"
          multiple
          hidden
          aria-label="Driver files"
          onChange={(e) => {
            uploads.send(e.currentTarget.files ?? []);
            e.currentTarget.value = "";
          }}
        />
      </div>
      {uploads.list.length > 0 && (
        <ul className="uploads" aria-label="Uploads" aria-live="polite">
          {uploads.list.map((u) => (
            <li key={u.n} data-state={u.state} role={u.state === "failed" ? "alert" : undefined}>
              <code>{u.file}</code>
              {u.driver ? <Link href={`/drivers/${u.driver}`}>{u.text}</Link> : <span>{u.text}</span>}
            </li>
          ))}
          <CloseButton size="xs" aria-label="Clear the list" onClick={uploads.clear} />
        </ul>
      )}
    </section>
  );
}
