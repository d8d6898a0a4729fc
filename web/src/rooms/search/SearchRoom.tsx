import "./search.css";

import { Checkbox, TextInput } from "@mantine/core";
import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { Link, useSearchParams } from "wouter";

import { search } from "../../api/client";
import { Cel } from "../../frame/Cel";
import { More } from "../../frame/More";
import { useWord } from "../../frame/address";
import { explain } from "../../api/errors";
import { RoomHead } from "../../frame/Room";
import { quote, Try } from "../../frame/Try";
import type { Facet, SearchHit, SearchResponse } from "../../gen/pollux/v1/search_pb";
import { count } from "../../model/value";
import { hitPath } from "./paths";

const facetNames = ["kind", "project", "model", "driver", "zone", "status", "label"] as const;

/** Everything that is configured, found by each letter that is typed; narrowed by what the hits have in common. */
export function SearchRoom() {
  const [text, setText] = useWord("q");
  const [where, setWhere] = useWord("where");
  const [chosen, toggle] = useChosen();
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const focus = () => box.current?.select();
    focus();
    window.addEventListener("pollux:search", focus);
    return () => window.removeEventListener("pollux:search", focus);
  }, []);
  const query = useInfiniteQuery({
    queryKey: ["search", text, where, chosen],
    queryFn: ({ pageParam, signal }) => search.search({ query: text, where, facets: chosen, pageSize: 50, pageToken: pageParam, countFacets: pageParam === "" }, { signal }),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    placeholderData: keepPreviousData,
    retry: false,
    // What is made meanwhile is found, too; who has gone on to further pages keeps them as they are.
    refetchInterval: ({ state: { data } }) => ((data?.pages.length ?? 0) > 1 ? false : data?.pages[0]?.building ? 1000 : 10_000),
  });
  const first = query.data?.pages[0];
  const hits = query.data?.pages.flatMap((p) => p.hits) ?? [];
  const wrong = query.error && where ? explain(query.error) : undefined;
  return (
    <>
      <RoomHead title="Search" error={wrong ? undefined : query.error} note={first && <Told first={first} />} />
      <div className="search-box">
        <TextInput ref={box} size="md" label="Words" placeholder="Names, titles, models, zones, labels, aliases" value={text} onChange={(e) => setText(e.currentTarget.value)} />
        <Cel label="Where" placeholder='twin.properties.power == "on"' value={where} onChange={setWhere} said={wrong} />
      </div>
      <div className="search-found" aria-busy={query.isFetching}>
        <aside className="search-facets" aria-label="Facets">
          {facetNames.map((name) => (
            <FacetBox key={name} name={name} facet={first?.facets.find((f) => f.name === name)} chosen={chosen.filter((c) => c.name === name).map((c) => c.value)} toggle={toggle} />
          ))}
        </aside>
        <section className="panel" aria-label="Hits">
          {first && hits.length === 0 && <Nothing text={text} />}
          <ul className="list">
            {hits.map((h) => (
              <li key={`${h.kind} ${h.id}`}>
                <Hit hit={h} />
              </li>
            ))}
          </ul>
          <More query={query}>{count(hits.length)} shown</More>
        </section>
      </div>
    </>
  );
}

/** The chosen values of facets are in the address, as `facet=name:value`. */
function useChosen(): [{ name: string; value: string }[], (name: string, value: string) => void] {
  const [words, setWords] = useSearchParams();
  const all = words.getAll("facet");
  const chosen = all.map((f) => ({ name: f.slice(0, f.indexOf(":")), value: f.slice(f.indexOf(":") + 1) }));
  const toggle = (name: string, value: string) =>
    setWords((before) => {
      const next = new URLSearchParams(before);
      const word = `${name}:${value}`;
      const kept = next.getAll("facet").filter((f) => f !== word);
      const added = kept.length === next.getAll("facet").length ? [...kept, word] : kept;
      next.delete("facet");
      for (const f of added) next.append("facet", f);
      return next;
    });
  return [chosen, toggle];
}

function Told({ first }: { first: SearchResponse }) {
  return (
    <>
      {count(first.total)} found
      {first.truncated && "; the expression was evaluated on the 20,000 best only"}
      {first.building && "; the node is still making its index: more may be found in a moment"}
    </>
  );
}

interface FacetProps {
  name: string;
  facet?: Facet;
  chosen: string[];
  toggle: (name: string, value: string) => void;
}

function FacetBox({ name, facet, chosen, toggle }: FacetProps) {
  const values = facet?.values ?? [];
  const all = [...values, ...chosen.filter((c) => !values.some((v) => v.value === c)).map((value) => ({ value, hits: 0n }))];
  if (all.length === 0) return null;
  return (
    <fieldset>
      <legend>{name}</legend>
      {all.map((v) => (
        <Checkbox
          key={v.value}
          size="xs"
          label={
            <>
              {v.value} <span className="muted">{count(v.hits)}</span>
            </>
          }
          aria-label={`${name} ${v.value}`}
          checked={chosen.includes(v.value)}
          onChange={() => toggle(name, v.value)}
        />
      ))}
    </fieldset>
  );
}

function Hit({ hit: h }: { hit: SearchHit }) {
  const path = hitPath(h.kind, h.id);
  const inside = (
    <>
      <span>
        <b>{h.title || h.id.slice(h.id.indexOf("/") + 1)}</b>
        <code>{h.id}</code>
      </span>
      <span className="muted">{[h.model, h.driver, h.zone, ...h.labels].filter(Boolean).join(" · ") || h.description}</span>
      <span className="pill" data-tone={h.status === "fault" ? "bad" : undefined}>
        {h.kind}
        {h.status && h.status !== "none" && `, ${h.status}`}
      </span>
    </>
  );
  return path ? (
    <Link href={path} className="list-item">
      {inside}
    </Link>
  ) : (
    <div className="list-item">{inside}</div>
  );
}

function Nothing({ text }: { text: string }) {
  return (
    <div className="empty">
      <b>Nothing has all of that.</b>
      <span>A word finds names that begin so. The same in a terminal, with more to narrow it by:</span>
      <Try lines={[{ what: "Search", line: `pollux search ${text ? quote(text) : "lamp"} --facets` }, { what: "What the flags are", line: "pollux search --help" }]} />
    </div>
  );
}
