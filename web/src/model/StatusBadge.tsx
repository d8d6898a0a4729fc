import { Connection, Quality, type TwinStatus } from "../gen/pollux/v1/twin_pb";

const connections: Record<Connection, { key: string; word: string }> = {
  [Connection.UNSPECIFIED]: { key: "none", word: "Unknown" },
  [Connection.NONE]: { key: "none", word: "Connectionless" },
  [Connection.CONNECTING]: { key: "connecting", word: "Connecting" },
  [Connection.CONNECTED]: { key: "connected", word: "Connected" },
  [Connection.DISCONNECTED]: { key: "disconnected", word: "Disconnected" },
  [Connection.STOPPED]: { key: "stopped", word: "Stopped" },
  [Connection.SLEEPING]: { key: "stopped", word: "Asleep" },
};

export const QUALITY: Record<Quality, string> = {
  [Quality.UNSPECIFIED]: "unknown",
  [Quality.GOOD]: "good",
  [Quality.STALE]: "stale",
  [Quality.BAD]: "bad",
  [Quality.UNCERTAIN]: "uncertain",
};

/** How the twin stands with its device; a fault outweighs the connection. */
export function StatusBadge({ status, stopped }: { status: TwinStatus | undefined; stopped?: boolean }) {
  const connection = connections[stopped ? Connection.STOPPED : (status?.connection ?? Connection.UNSPECIFIED)];
  const key = status?.fault || status?.quarantineTime ? "fault" : connection.key;
  return (
    <span className="status" data-status={key} title={status?.fault || connection.word}>
      <i aria-hidden="true" />
      {status?.quarantineTime ? "Quarantine" : status?.fault ? "Fault" : connection.word}
    </span>
  );
}
