import { useQuery } from "@tanstack/react-query";
import { Link } from "wouter";

import { twins } from "../../api/client";
import { Lines } from "../../chart/Lines";
import { useModelRecords } from "../../model/catalog";
import { useLines } from "../history/useLines";
import { format, type SeriesId } from "../history/series";
import { begin, derived } from "./derived";

/** How many lines are drawn, and of how many twins of a model. */
const most = 4;

/** The last quarter of an hour of what is computed of many twins: the sums and means that stand for a house or a floor. */
export function Figures() {
  const { data: models } = useModelRecords();
  const wanted = derived(models ?? []);
  const { data } = useQuery({
    queryKey: ["twins", "derived", wanted],
    enabled: wanted.length > 0,
    queryFn: async ({ signal }) => {
      const pages = await Promise.all(wanted.map((m) => twins.listTwins({ filter: { model: m.model }, pageSize: most }, { signal })));
      return pages.flatMap((page, i) => page.twins.flatMap((t) => (wanted[i]?.properties ?? []).map((property): SeriesId => ({ twin: t.id, property })))).slice(0, most);
    },
    refetchInterval: 60_000,
  });
  const list = data ?? [];
  const { lines, from, to } = useLines({ list, range: 900, marked: undefined, step: 5, aggregate: "avg", unit: "", compare: "" });
  if (list.length === 0) return null;
  return (
    <section className="panel overview-wide" aria-label="Computed figures">
      <h2>
        The last 15 minutes
        <span className="panel-tools">
          <Link href={`/history?of=${encodeURIComponent(format(list))}`}>In the history</Link>
        </span>
      </h2>
      <Lines lines={lines} from={begin(lines, from / 1000, to / 1000)} to={to / 1000} gaps="across" label="Computed figures" onSelect={() => undefined} />
    </section>
  );
}
