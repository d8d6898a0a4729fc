/** A part of an address: where it stands in it. */
export interface Part {
  name: string;
  label: string;
  placeholder?: string;
  /** Offered values; the first is the default. */
  choices?: string[];
  required?: boolean;
}

/** A kind of other system, and how its address is put together. */
export interface Target {
  name: string;
  scheme: string;
  /** In place of `scheme`, over TLS. */
  secure?: string;
  parts: Part[];
  secret?: string;
}

const user: Part = { name: "user", label: "User" };
const sasl: Part = { name: "sasl", label: "SASL", choices: ["", "plain", "scram-sha-256", "scram-sha-512"] };
const tls: Part = { name: "tls", label: "TLS", choices: ["", "true"] };

/** Host and path come first, the others are parameters. */
export const sinkTargets: Target[] = [
  { name: "Files (Parquet)", scheme: "file:", parts: [{ name: "host", label: "Folder", placeholder: "lake", required: true }] },
  {
    name: "S3 (Parquet)",
    scheme: "s3://",
    secret: "Secret key",
    parts: [
      { name: "host", label: "Bucket", required: true },
      { name: "path", label: "Prefix" },
      { name: "endpoint", label: "Endpoint", placeholder: "minio:9000" },
      { name: "region", label: "Region" },
      { name: "access_key", label: "Access key" },
      { name: "tls", label: "TLS", choices: ["", "false"] },
    ],
  },
  { name: "Webhook", scheme: "", secret: "Signing key", parts: [{ name: "host", label: "Address", placeholder: "https://example.com/hook", required: true }] },
  {
    name: "Kafka",
    scheme: "kafka://",
    secret: "Password",
    parts: [{ name: "host", label: "Brokers", placeholder: "kafka-1:9092,kafka-2:9092", required: true }, { name: "path", label: "Topic", required: true }, user, sasl, tls],
  },
  {
    name: "MQTT",
    scheme: "mqtt://",
    secure: "mqtts://",
    secret: "Password",
    parts: [{ name: "host", label: "Broker", placeholder: "broker:1883", required: true }, { name: "path", label: "Prefix" }, user, { name: "qos", label: "QoS", choices: ["", "0", "1", "2"] }],
  },
  {
    name: "ClickHouse",
    scheme: "clickhouse://",
    secure: "clickhouses://",
    secret: "Password",
    parts: [{ name: "host", label: "Host", placeholder: "clickhouse:8123", required: true }, { name: "path", label: "Database/table", placeholder: "default/changes", required: true }, user],
  },
];

export const sourceTargets: Target[] = [
  {
    name: "Kafka",
    scheme: "kafka://",
    secret: "Password",
    parts: [
      { name: "host", label: "Brokers", placeholder: "kafka-1:9092,kafka-2:9092", required: true },
      { name: "path", label: "Topic", required: true },
      { name: "network", label: "Alias network", placeholder: "kafka" },
      { name: "key", label: "Alias key", placeholder: "the topic" },
      { name: "group", label: "Consumer group" },
      user,
      sasl,
      tls,
    ],
  },
];

/** The address that the parts make. */
export function address(target: Target, values: Record<string, string>, secure: boolean): string {
  const said = (name: string) => (values[name] ?? "").trim();
  const path = said("path").replace(/^\/+/, "");
  const words = target.parts.filter((p) => p.name !== "host" && p.name !== "path" && said(p.name)).map((p) => `${p.name}=${encodeURIComponent(said(p.name))}`);
  const scheme = (secure && target.secure) || target.scheme;
  return scheme + said("host") + (path && `/${path}`) + (words.length > 0 ? `?${words.join("&")}` : "");
}
