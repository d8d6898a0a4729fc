import "./site.css";

import { Button, Loader, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useRef, useState, type KeyboardEvent } from "react";

import { useWord } from "../../frame/address";
import { RoomHead } from "../../frame/Room";
import { Try } from "../../frame/Try";
import { useChanges } from "../../live/changes";
import { useZones } from "../../model/catalog";
import { counted } from "../../model/list";
import { split } from "../../model/id";
import { SearchIcon } from "../../shell/icons";
import { siteTabs } from "./tabs";
import { tree, type Branch } from "./tree";
import { ZoneDetail, ZoneForm } from "./ZoneDetail";

/** The zones, as a tree; what is in each, and what it is called. */
export function SiteRoom() {
  useChanges("zone", "zones");
  const [chosenId, choose] = useWord("zone");
  const queries = useQueryClient();
  const { data, isPending, error } = useZones();
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set());
  const [text, setText] = useState("");
  const [parent, setParent] = useState<string>();
  const zones = data ?? [];
  const found = text.toLowerCase();
  const lines: Branch[] = found
    ? zones.filter((z) => `${z.id} ${z.title} ${z.kind}`.toLowerCase().includes(found)).map((zone) => ({ zone, depth: 0, below: 0 }))
    : tree(zones, closed);
  const chosen = zones.find((z) => z.id === chosenId);
  const again = () => queries.invalidateQueries({ queryKey: ["zones"] });
  const toggle = (id: string) =>
    setClosed((before) => {
      const next = new Set(before);
      if (!next.delete(id)) next.add(id);
      return next;
    });
  return (
    <>
      <RoomHead title="Site" tabs={siteTabs} note={counted(zones, "zone")} error={error}>
        <Button onClick={() => setParent("")}>New zone</Button>
      </RoomHead>
      <div className="split">
        <div className="split-list">
          <section className="panel" aria-label="Zones">
            <h2>
              Zones
              <span className="panel-tools">
                <TextInput aria-label="Find a zone" placeholder="Find a zone" leftSection={<SearchIcon size={14} />} value={text} onChange={(e) => setText(e.currentTarget.value)} />
              </span>
            </h2>
            {isPending && <Loader size="sm" m="md" aria-label="Loading" />}
            {!isPending && lines.length === 0 && <p className="muted pad">{text ? "None is called so." : "None yet."}</p>}
            <Lines lines={lines} closed={closed} chosen={chosenId} onChoose={choose} onToggle={toggle} />
          </section>
        </div>
        <div className="split-detail">
          {parent !== undefined && (
            <section className="panel" aria-label="New zone">
              <h2>{parent ? `New zone in ${parent}` : "New zone"}</h2>
              <ZoneForm
                parent={parent}
                zones={zones}
                onCancel={() => setParent(undefined)}
                onSaved={async (id) => {
                  await again();
                  setParent(undefined);
                  choose(id);
                }}
              />
            </section>
          )}
          {chosen ? (
            <ZoneDetail
              key={chosen.id}
              zone={chosen}
              zones={zones}
              onChanged={again}
              onAdd={() => setParent(chosen.id)}
              onDeleted={async () => {
                await again();
                choose("");
              }}
            />
          ) : (
            parent === undefined && (
              <div className="empty">
                <b>{chosenId && !isPending ? `There is no zone ${chosenId}.` : "Zones are places in a tree: a building, its levels, their rooms."}</b>
                <span>Twins and systems are in one each. What is set for a zone holds for all twins in it and below.</span>
                <Try
                  lines={[
                    { what: "A building, and a room in it", line: "pollux zone put hq --kind building --title Headquarters && pollux zone put aula --kind room --parent hq" },
                    { what: "Many at once, of a CSV file with the columns id, parent, kind, title", line: "pollux import zones rooms.csv --dry-run" },
                  ]}
                />
              </div>
            )
          )}
        </div>
      </div>
    </>
  );
}

interface LinesProps {
  lines: Branch[];
  closed: ReadonlySet<string>;
  chosen: string;
  onChoose: (id: string) => void;
  onToggle: (id: string) => void;
}

/** The tree: arrows move, right opens, left closes. */
function Lines({ lines, closed, chosen, onChoose, onToggle }: LinesProps) {
  const box = useRef<HTMLUListElement>(null);
  const press = (event: KeyboardEvent) => {
    const at = lines.findIndex((l) => l.zone.id === (event.target as HTMLElement).dataset.zone);
    const line = lines[at];
    if (!line) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: lines.length - 1 }[event.key];
    if (to !== undefined) {
      const id = lines[Math.max(0, Math.min(lines.length - 1, to))]?.zone.id ?? "";
      box.current?.querySelector<HTMLElement>(`[data-zone="${CSS.escape(id)}"]`)?.focus();
    } else if ((event.key === "ArrowRight" && closed.has(line.zone.id)) || (event.key === "ArrowLeft" && line.below > 0 && !closed.has(line.zone.id))) {
      onToggle(line.zone.id);
    } else return;
    event.preventDefault();
  };
  return (
    <ul className="zone-tree bounded" role="tree" aria-label="Zones" ref={box} onKeyDown={press}>
      {lines.map(({ zone, depth, below }) => (
        <li
          key={zone.id}
          role="treeitem"
          aria-level={depth + 1}
          aria-expanded={below ? !closed.has(zone.id) : undefined}
          aria-selected={zone.id === chosen}
          aria-label={zone.title || split(zone.id).name}
          style={{ paddingLeft: 8 + depth * 18 }}
        >
          {below > 0 ? (
            <button type="button" className="plain twist" tabIndex={-1} aria-label={`${closed.has(zone.id) ? "Open" : "Close"} ${zone.id}`} onClick={() => onToggle(zone.id)}>
              {closed.has(zone.id) ? "▸" : "▾"}
            </button>
          ) : (
            <span className="twist" />
          )}
          <button type="button" className="plain zone-name" data-zone={zone.id} onClick={() => onChoose(zone.id)}>
            <b>{zone.title || split(zone.id).name}</b>
            <code>{zone.id}</code>
            {zone.kind && <span className="muted">{zone.kind}</span>}
          </button>
        </li>
      ))}
    </ul>
  );
}
