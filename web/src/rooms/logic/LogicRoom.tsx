import "../automation/automation.css";
import "./logic.css";

import { Button } from "@mantine/core";
import { useState } from "react";

import { Records } from "../../frame/Records";
import { useWord } from "../../frame/address";
import { RoomHead } from "../../frame/Room";
import { Try } from "../../frame/Try";
import type { Logic } from "../../gen/pollux/v1/logic_pb";
import { Item } from "../automation/Item";
import { counted } from "../../model/list";
import { LogicDetail } from "./LogicDetail";
import { NewLogic } from "./NewLogic";
import { useLogics } from "./useLogics";

/** Logic: code of one's own between twins. It is written, tried on what was, deployed, watched, and taken back. */
export function LogicRoom() {
  const [id, choose] = useWord("logic");
  const [making, setMaking] = useState(false);
  const { data, error } = useLogics();
  const list = data ?? [];
  const chosen = list.find((m) => m.id === id);
  return (
    <>
      <RoomHead title="Logic" note={data && counted(list, "logic")} error={error}>
        <Button onClick={() => setMaking(true)}>New logic</Button>
      </RoomHead>
      <div className="logic-split">
        <Records title="Logics" list={data} error={error} words={(m) => `${m.id} ${m.title}`}>
          {(m) => (
            <Item
              key={m.id} id={m.id} title={m.title} note={m.version} pill={stateOf(m)} bad={!!m.fault} chosen={m.id === id && !making}
              onChoose={() => {
                setMaking(false);
                choose(m.id);
              }}
            />
          )}
        </Records>
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
