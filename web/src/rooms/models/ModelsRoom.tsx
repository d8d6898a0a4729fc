import { Button, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useLocation } from "wouter";

import { explain } from "../../api/errors";
import { Records } from "../../frame/Records";
import { Held } from "../../frame/Held";
import { create } from "@bufbuild/protobuf";
import { ModelSchema } from "../../gen/pollux/v1/model_pb";
import { useChanges } from "../../live/changes";
import { useModelRecords } from "../../model/catalog";
import { counted } from "../../model/list";
import { blank } from "../../model/thingmodel";
import { count } from "../../model/value";
import { ModelEditor } from "./ModelEditor";

/** The models of twins without a driver. */
export function ModelsRoom({ id }: { id?: string }) {
  useChanges("model", "models");
  const client = useQueryClient();
  const [, go] = useLocation();
  const [name, setName] = useState("");
  const { data, isPending, error } = useModelRecords(15_000);
  const all = data ?? [];
  const chosen = all.find((m) => m.id === id);
  const draft = !chosen && id !== undefined && !isPending;
  return (
    <>
      <header className="room-head">
        <h1>Models</h1>
        <span className="muted">
          {counted(all, "model")}
        </span>
      </header>
      {error && (
        <p className="trouble" role="alert">
          {explain(error)}
        </p>
      )}
      <div className="split split-wide">
        <div className="split-list">
          <form
            className="panel pad"
            onSubmit={(e) => {
              e.preventDefault();
              go(modelPath(name.trim()));
              setName("");
            }}
          >
            <TextInput label="New model" placeholder="room, or project/room" value={name} onChange={(e) => setName(e.currentTarget.value)} />
            <Button mt="xs" type="submit" disabled={name.trim() === ""}>
              Begin
            </Button>
          </form>
          <Records title="Models" list={data} error={error} none="None yet. A twin of a model needs no driver: the model reads its messages." words={(m) => `${m.id} ${m.title}`}>
            {(m) => (
              <li key={m.id}>
                <Link href={modelPath(m.id)} className="list-item" aria-current={m.id === id ? "true" : undefined}>
                  <span>
                    <b>{m.title || m.id}</b>
                    <code>{m.id}</code>
                  </span>
                  <span className="pill">
                    {count(m.twins)} {m.twins === 1n ? "twin" : "twins"}
                  </span>
                </Link>
              </li>
            )}
          </Records>
        </div>
        <div className="split-detail">
          {chosen || draft ? (
            <Held key={id} record={chosen ?? create(ModelSchema, { id: id ?? "", thingJson: blank })} revision={chosen?.revision ?? 0n}>
              {(model, release) => (
                <ModelEditor
                  model={model}
                  twins={chosen?.twins ?? 0n}
                  onChanged={() => {
                    release();
                    return client.invalidateQueries({ queryKey: ["models"] });
                  }}
                />
              )}
            </Held>
          ) : (
            <div className="empty">
              <b>Choose a model to see what its twins have.</b>
              <span>It says where the messages of a device have the values of its properties, in which unit, and what is kept of them.</span>
            </div>
          )}
        </div>
      </div>
    </>
  );
}

function modelPath(id: string): string {
  const full = id.includes("/") ? id : `default/${id}`;
  return `/models/${full.split("/").map(encodeURIComponent).join("/")}`;
}
