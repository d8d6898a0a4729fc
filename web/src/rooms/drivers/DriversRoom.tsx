import "./drivers.css";

import { Button, Loader } from "@mantine/core";
import { Link } from "wouter";

import { explain } from "../../api/errors";
import { useDrivers } from "../../model/catalog";
import { counted } from "../../model/list";
import { count } from "../../model/value";
import { group } from "../../model/versions";
import { Catalog } from "./Catalog";
import { DriverDetail } from "./DriverDetail";
import { DropZone } from "./DropZone";
import { Inbox } from "./Found";
import { useUploads } from "./useUploads";

/** The drivers of the cluster, and how to get more of them. */
export function DriversRoom({ name }: { name?: string }) {
  const { data, isPending, error } = useDrivers();
  const uploads = useUploads();
  const groups = group(data ?? []);
  const chosen = groups.find((g) => g.name === name);

  return (
    <>
      <header className="room-head">
        <h1>Drivers</h1>
        <span className="muted">
          {counted(groups, "driver")}, {counted(data ?? [], "version")}
        </span>
        <Button className="head-end" variant="default" component={Link} href="/drivers-new">
          Write one in JavaScript
        </Button>
      </header>
      {error && (
        <p className="trouble" role="alert">
          {explain(error)}
        </p>
      )}
      <div className="split">
        <div className="split-list">
          <DropZone uploads={uploads} />
          <section className="panel" aria-label="Installed drivers">
            <h2>Installed</h2>
            {isPending && <Loader size="sm" m="md" aria-label="Loading" />}
            {!isPending && groups.length === 0 && <p className="muted pad">None yet. Drop a file above, or add one from the catalogue.</p>}
            <ul className="list">
              {groups.map((g) => {
                const twins = g.versions.reduce((n, v) => n + v.twins, 0n);
                return (
                  <li key={g.name}>
                    <Link href={`/drivers/${g.name}`} className="list-item" aria-current={g.name === name ? "true" : undefined}>
                      <span>
                        <b>{g.newest.title || g.name}</b>
                        <code>{g.name}</code>
                      </span>
                      <span className="muted">
                        {g.newest.version}
                        {g.versions.length > 1 && ` and ${g.versions.length - 1} older`}
                      </span>
                      <span className="pill">
                        {count(twins)} {twins === 1n ? "twin" : "twins"}
                      </span>
                    </Link>
                  </li>
                );
              })}
            </ul>
          </section>
          <Catalog installed={data ?? []} />
        </div>
        <div className="split-detail">
          {chosen ? (
            <DriverDetail key={chosen.name} driver={chosen} />
          ) : (
            <div className="empty">
              {name && !isPending ? <b>There is no driver {name}.</b> : <b>Choose a driver to see what it does.</b>}
              <span>A driver is one file, WASM or JavaScript. It describes its properties, actions, events and settings itself.</span>
            </div>
          )}
          <Inbox />
        </div>
      </div>
    </>
  );
}
