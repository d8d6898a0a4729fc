import { NativeSelect } from "@mantine/core";

import { useWord } from "../../frame/address";
import { spanOf, spans } from "./past";

/** How far back is looked; it is a word of the address. */
export function SpanChoice() {
  const [word, setWord] = useWord("span");
  return (
    <NativeSelect
      aria-label="The last"
      size="xs"
      data={spans.map((s) => ({ value: s.word, label: s.label }))}
      value={spanOf(word).word}
      onChange={(e) => setWord(e.currentTarget.value)}
    />
  );
}
