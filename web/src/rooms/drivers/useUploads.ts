import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useState } from "react";

import { drivers } from "../../api/client";
import { explain } from "../../api/errors";
import { bytes } from "../../model/value";

/** What became of a file. */
export interface Upload {
  n: number;
  file: string;
  state: "sending" | "added" | "known" | "failed";
  /** `name version`, or why it failed. */
  text: string;
  driver?: string;
}

/** The API's limit. */
const largest = 32 << 20;
const magic = [0x00, 0x61, 0x73, 0x6d];

export interface Uploads {
  list: Upload[];
  send: (files: Iterable<File>) => void;
  clear: () => void;
}

let next = 0;

export function useUploads(): Uploads {
  const [list, setList] = useState<Upload[]>([]);
  const queries = useQueryClient();
  const one = useCallback(
    async (file: File) => {
      const n = next++;
      const put = (u: Omit<Upload, "n" | "file">) =>
        setList((before) => [...before.filter((x) => x.n !== n), { n, file: file.name, ...u }].slice(-8));
      put({ state: "sending", text: "verifying" });
      try {
        const data = await read(file);
        const { driver, created } = await drivers.uploadDriver({ file: data });
        put({
          state: created ? "added" : "known",
          text: `${driver?.name} ${driver?.version}${created ? "" : " was there already"}`,
          driver: driver?.name,
        });
        await queries.invalidateQueries({ queryKey: ["drivers"] });
      } catch (error) {
        put({ state: "failed", text: error instanceof Unfit ? error.message : explain(error) });
      }
    },
    [queries],
  );
  const send = useCallback(
    (files: Iterable<File>) => {
      const chosen = [...files];
      void (async () => {
        // One after the other: the node verifies and compiles each.
        for (const file of chosen) await one(file);
      })();
    },
    [one],
  );
  return { list, send, clear: () => setList([]) };
}

/** A file that is no driver, seen before it was sent. */
class Unfit extends Error {}

async function read(file: File): Promise<Uint8Array<ArrayBuffer>> {
  if (file.size > largest) throw new Unfit(`is ${bytes(file.size)}; a driver has at most ${bytes(largest)}`);
  const data = new Uint8Array(await file.arrayBuffer());
  if (file.name.endsWith(".js")) return data;
  if (data.length < 8) throw new Unfit("is empty or cut off: a driver is a WASM file, or JavaScript");
  if (!magic.every((b, i) => data[i] === b)) throw new Unfit("is neither JavaScript (NAME.js) nor a WASM file, which begins with \\0asm");
  return data;
}
