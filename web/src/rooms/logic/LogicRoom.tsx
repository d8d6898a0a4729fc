import "../automation/automation.css";
import "./logic.css";

import { Button, Loader } from "@mantine/core";
import { useState } from "react";

import { useWord } from "../../frame/address";
import { RoomHead } from "../../frame/Room";
import { Try } from "../../frame/Try";
import type { Logic } from "../../gen/pollux/v1/logic_pb";
import { Item } from "../automation/Item";
import { LogicDetail } from "./LogicDetail";
import { NewLogic } from "./NewLogic";
import { useLogics } from "./useLogics";

/** Logic: code of one's own between twins. It is written, tried on what was, deployed, watched, and taken back. */
export function LogicRoom() {
  const [id, choose] = useWord("logic");
  const [making, setMaking] = useState(false);
  const { data, isPending, error } = useLogics();
  const list = data ?? [];
  const chosen = list.find((m) => m.id === id);
  return (
    <>
      <RoomHead title="Logic" note={data && `${list.length} ${list.length === 1 ? "logic" : "logics"}`} error={error}>
        <Button onClick={() => setMaking(true)}>New logic</Button>
      </RoomHead>
      <div className="logic-split">
        <section className="panel" aria-label="Logics">
          <h2>Logics</h2>
          {isPending && <Loader size="sm" m="md" aria-label="Loading" />}
          {data && list.length === 0 && <p className="muted pad">None yet.</p>}
          <ul className="list bounded">
            {list.map((m) => (
              <Item
                key={m.id} id={m.id} title={m.title} note={m.version} pill={stateOf(m)} bad={!!m.fault} chosen={m.id === id && !making}
                onChoose={() => {
                  setMaking(false);
                  choose(m.id);
                }}
              />
            ))}
          </ul>
        </section>
        <div className="split-detail">
          {making ? (
            <NewLogic
              onClose={(made) => {
                setMaking(false);
                if (made) choose(made);
              }}
            />
          ) : chosen ? (
            <LogicDetail key={chosen.id} logic={chosen} />
          ) : (
            <div className="empty">
              {id && data ? <b>There is no logic {id}.</b> : <b>A logic does what rules cannot say: one file of JavaScript.</b>}
              <span>It reacts to twins, times, topics and webhooks, commands twins, and lets messages of routes pass, changes or stops them.</span>
              <Try lines={[{ what: "From a file", line: "pollux logic push deploy/examples/room/aula.js --system aula" }]} />
            </div>
          )}
        </div>
      </div>
    </>
  );
}

/** How a logic is, in a word. */
export function stateOf(m: Logic): string {
  if (m.stopped) return "stopped";
  return m.fault ? "fault" : "ok";
}
