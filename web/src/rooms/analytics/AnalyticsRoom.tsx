import "../automation/automation.css";

import { Button, SegmentedControl } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { analytics } from "../../api/client";
import { Records } from "../../frame/Records";
import { useWord } from "../../frame/address";
import { Held } from "../../frame/Held";
import { RoomHead, Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import type { Detector } from "../../gen/pollux/v1/analytics_pb";
import { all, counted } from "../../model/list";
import { split } from "../../model/id";
import { Facts } from "../automation/Facts";
import { Item } from "../automation/Item";
import { useChanges } from "../../live/changes";
import { automationTabs } from "../automation/useAutomation";
import { DetectorForm } from "./DetectorForm";
import { kindOf, outputOf, whose } from "./kinds";
import { MetricsQL } from "./MetricsQL";
import { projectOf, Trial } from "./Trial";

function useDetectors() {
  useChanges("detector");
  return useQuery({
    queryKey: ["detector", "all"],
    queryFn: ({ signal }) =>
      all<Detector>(async (pageToken) => {
        const page = await analytics.listDetectors({ pageSize: 1000, pageToken }, { signal });
        return { items: page.detectors, next: page.nextPageToken };
      }),
  });
}

/** Analytics: what judges the readings of twins as they come. */
export function AnalyticsRoom() {
  const [id, choose] = useWord("detector");
  const [show, setShow] = useWord("show");
  const { data, error } = useDetectors();
  const list = data ?? [];
  const chosen = list.find((d) => d.id === id);
  return (
    <>
      <RoomHead title="Analytics" tabs={automationTabs} note={data && counted(list, "detector")} error={error}>
        <SegmentedControl
          size="xs"
          aria-label="View"
          value={show === "metricsql" ? show : "detectors"}
          onChange={(v) => setShow(v === "detectors" ? "" : v)}
          data={[
            { value: "detectors", label: "Detectors" },
            { value: "metricsql", label: "MetricsQL" },
          ]}
        />
        {show !== "metricsql" && <Button onClick={() => choose("new")}>New detector</Button>}
      </RoomHead>
      {show === "metricsql" ? (
        <MetricsQL of={projectOf(list[0]?.id ?? "")} />
      ) : (
        <div className="split">
          <div className="split-list">
            <Records title="Detectors" list={data} error={error} words={(d) => `${d.id} ${d.title}`}>
              {(d) => (
                <Item key={d.id} id={d.id} title={d.title} note={`${kindOf(d.kind).name} of ${d.property}`} pill={d.paused ? "paused" : undefined} chosen={d.id === id} onChoose={() => choose(d.id)} />
              )}
            </Records>
          </div>
          <div className="split-detail">
            {id === "new" ? (
              <section className="panel" aria-label="New detector">
                <h2>New detector</h2>
                <DetectorForm onClose={choose} />
              </section>
            ) : chosen ? (
              <Detail key={chosen.id} detector={chosen} onChoose={choose} />
            ) : (
              <div className="empty">
                {id && data ? <b>There is no detector {id}.</b> : <b>A detector judges readings as they come.</b>}
                <span>Spikes, drifts, the wrong hour, sensors that are stuck or silent. What it says are properties of the twin.</span>
                <Try lines={[{ what: "Spikes of all rooms", line: "pollux detector create spikes --property temperature --kind ewma --model room" }]} />
              </div>
            )}
          </div>
        </div>
      )}
    </>
  );
}

function Detail({ detector, onChoose }: { detector: Detector; onChoose: (id: string) => void }) {
  const client = useQueryClient();
  const [editing, edit] = useState(false);
  const pause = useMutation({
    mutationFn: () => analytics.updateDetector({ detector: { ...detector, paused: !detector.paused } }),
    onSettled: () => client.invalidateQueries({ queryKey: ["detector"] }),
  });
  const kind = kindOf(detector.kind);
  return (
    <section className="panel" aria-label={`Detector ${detector.id}`}>
      <div className="detail-head">
        <div>
          <h2>
            {detector.title || split(detector.id).name} <code>{detector.id}</code>
          </h2>
          <Facts
            list={[
              ["Kind", kind.name],
              ["Property", detector.property],
              ["Of", whose(detector)],
              ["Writes", `${outputOf(detector)}_…`],
              ["Threshold", kind.threshold ? detector.threshold || kind.threshold : "–"],
              ["State", detector.paused ? "paused" : "on"],
            ]}
          />
        </div>
        <span className="head-actions">
          <Button variant="default" loading={pause.isPending} onClick={() => pause.mutate()}>
            {detector.paused ? "Enable" : "Disable"}
          </Button>
          <Button variant="default" onClick={() => edit(!editing)}>
            Edit
          </Button>
        </span>
      </div>
      <Trouble error={pause.error} inside />
      {editing ? (
        <Held record={detector} revision={detector.revision}>
          {(held) => (
            <DetectorForm
              detector={held}
              onClose={(id) => {
                edit(false);
                onChoose(id);
              }}
            />
          )}
        </Held>
      ) : (
        <Trial detector={detector} project={projectOf(detector.id)} />
      )}
    </section>
  );
}
