import { useComputedColorScheme } from "@mantine/core";

import { colourOf, type Colours } from "./colours";

/** A node's colour. */
export function Swatch({ colours, id }: { colours: Colours; id: string }) {
  const scheme = useComputedColorScheme("light");
  return <i className="swatch" aria-hidden="true" style={{ background: colourOf(colours, id, scheme) }} />;
}
