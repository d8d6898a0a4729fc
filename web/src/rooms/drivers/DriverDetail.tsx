import { ActionIcon, Alert, Button, Modal, Table, Tabs, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";

import { drivers, twins } from "../../api/client";
import { explain } from "../../api/errors";
import type { Driver } from "../../gen/pollux/v1/driver_pb";
import type { DriverGroup } from "../../model/versions";
import { twinPath } from "../../model/id";
import { parseManifest } from "../../model/thing";
import { StatusBadge } from "../../model/StatusBadge";
import { bytes, count, dateTime, millis } from "../../model/value";
import { PlusIcon, TrashIcon } from "../../shell/icons";
import { ScopeSettings } from "../../settings/ScopeSettings";
import { CreateTwin } from "../twins/CreateTwin";
import { ManifestView } from "./ManifestView";
import { Rollout } from "./Rollout";
import { Scan } from "./Scan";

/** One driver: its versions, what it can do, and who uses it. */
export function DriverDetail({ driver }: { driver: DriverGroup }) {
  const [version, setVersion] = useState<string>();
  const [creating, setCreating] = useState(false);
  const [deleting, setDeleting] = useState<Driver>();
  const shown = driver.versions.find((v) => v.version === version) ?? driver.newest;
  const scan = parseManifest(shown.manifestJson)?.scan;
  return (
    <section className="panel" aria-label={`Driver ${driver.name}`}>
      <div className="detail-head">
        <div>
          <h2>
            {shown.title || driver.name} <code>{driver.name}</code>
          </h2>
          <p className="muted">{shown.description}</p>
        </div>
        <span className="head-actions">
          {shown.source && (
            <Button variant="default" component={Link} href={`/drivers/${shown.name}/${shown.version}/edit`}>
              Edit
            </Button>
          )}
          <Button leftSection={<PlusIcon />} onClick={() => setCreating(true)}>
            Create twin
          </Button>
        </span>
      </div>
      <Table className="versions" verticalSpacing={5} highlightOnHover aria-label="Versions">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Version</Table.Th>
            <Table.Th>Size</Table.Th>
            <Table.Th>Digest</Table.Th>
            <Table.Th>Added</Table.Th>
            <Table.Th>Twins</Table.Th>
            <Table.Th aria-label="Delete" />
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {driver.versions.map((v) => (
            <Table.Tr key={v.digest} data-shown={v === shown || undefined} onClick={() => setVersion(v.version)}>
              <Table.Td>
                <button type="button" className="plain" aria-pressed={v === shown}>
                  {v.version}
                </button>{" "}
                {v.current && driver.versions.length > 1 && <span className="pill">current</span>}
                {v.quarantined > 0n && <span className="bad"> {count(v.quarantined)} in quarantine</span>}
              </Table.Td>
              <Table.Td>{bytes(v.size)}</Table.Td>
              <Table.Td>
                <code title={v.digest}>{v.digest.slice(0, 12)}</code>
              </Table.Td>
              <Table.Td title={v.createBy && `by ${v.createBy}`}>{dateTime(millis(v.createTime))}</Table.Td>
              <Table.Td>{count(v.twins)}</Table.Td>
              <Table.Td>
                <ActionIcon
                  variant="subtle"
                  color="gray"
                  aria-label={`Delete ${v.name} ${v.version}`}
                  onClick={(e) => {
                    e.stopPropagation();
                    setDeleting(v);
                  }}
                >
                  <TrashIcon />
                </ActionIcon>
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      <Tabs defaultValue="model" keepMounted={false} className="detail-tabs">
        <Tabs.List>
          <Tabs.Tab value="model">What it does</Tabs.Tab>
          <Tabs.Tab value="twins">Used by</Tabs.Tab>
          {scan && <Tabs.Tab value="find">Find devices</Tabs.Tab>}
          <Tabs.Tab value="settings">Settings</Tabs.Tab>
          <Tabs.Tab value="rollout">Rollout</Tabs.Tab>
          <Tabs.Tab value="manifest">Manifest</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="model">
          <ManifestView driver={shown} />
        </Tabs.Panel>
        <Tabs.Panel value="twins">
          <Users name={driver.name} />
        </Tabs.Panel>
        {scan && (
          <Tabs.Panel value="find">
            <Scan key={shown.digest} driver={`${shown.name}@${shown.version}`} scan={scan} />
          </Tabs.Panel>
        )}
        <Tabs.Panel value="settings">
          <p className="muted pad">What all its twins have, of whichever version, unless their zone, their system or they themselves say otherwise.</p>
          <ScopeSettings scope={{ kind: "driver", id: driver.name }} schema={parseManifest(driver.newest.manifestJson)?.settings} />
        </Tabs.Panel>
        <Tabs.Panel value="rollout">
          <Rollout driver={driver} />
        </Tabs.Panel>
        <Tabs.Panel value="manifest">
          <pre className="json" tabIndex={0} aria-label="Manifest">
            {pretty(shown.manifestJson)}
          </pre>
        </Tabs.Panel>
      </Tabs>
      <CreateTwin opened={creating} onClose={() => setCreating(false)} kind={{ driver: driver.name, model: "" }} />
      <DeleteDriver driver={deleting} onClose={() => setDeleting(undefined)} />
    </section>
  );
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json || "The node gave no manifest.";
  }
}

function Users({ name }: { name: string }) {
  const { data, error } = useQuery({
    queryKey: ["twins", "of", name],
    queryFn: ({ signal }) => twins.listTwins({ filter: { driver: name }, pageSize: 200, state: true }, { signal }),
  });
  if (error) return <p className="muted pad">{explain(error)}</p>;
  if (data?.twins.length === 0) return <p className="muted pad">No twin uses it.</p>;
  return (
    <ul className="list">
      {(data?.twins ?? []).map((t) => (
        <li key={t.id}>
          <Link href={twinPath(t.id)} className="list-item">
            <b>{t.id}</b>
            <span className="muted">{t.driver}</span>
            <StatusBadge status={t.state?.status} stopped={t.stopped} />
          </Link>
        </li>
      ))}
      {data?.nextPageToken && (
        <li className="pad">
          <Link href={`/twins?driver=${name}`}>All of them</Link>
        </li>
      )}
    </ul>
  );
}

function DeleteDriver({ driver, onClose }: { driver: Driver | undefined; onClose: () => void }) {
  const queries = useQueryClient();
  const { mutate, isPending, error, reset } = useMutation({
    mutationFn: (d: Driver) => drivers.deleteDriver({ name: d.name, version: d.version }),
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: ["drivers"] });
      onClose();
    },
  });
  const close = () => {
    reset();
    onClose();
  };
  return (
    <Modal opened={driver !== undefined} onClose={close} title="Delete driver" size="sm" closeButtonProps={{ "aria-label": "Close" }}>
      <div className="stack">
        <Text size="sm">
          <b>
            {driver?.name} {driver?.version}
          </b>{" "}
          goes from every node. A version that twins use stays until they use another.
        </Text>
        {error && (
          <Alert color="red" variant="light" role="alert">
            {explain(error)}
          </Alert>
        )}
        <div className="actions">
          <Button variant="default" onClick={close} data-autofocus>
            Keep it
          </Button>
          <Button color="red" loading={isPending} onClick={() => driver && mutate(driver)}>
            Delete driver
          </Button>
        </div>
      </div>
    </Modal>
  );
}
