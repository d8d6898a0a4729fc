import { expect, test } from "vitest";

import { address, sinkTargets, sourceTargets } from "./kinds";

const target = (name: string) => sinkTargets.find((t) => t.name === name)!;

test("parts make an address", () => {
  expect(address(target("Files (Parquet)"), { host: "lake" }, false)).toBe("file:lake");
  expect(address(target("S3 (Parquet)"), { host: "lake", path: "/x", endpoint: "minio:9000", tls: "false" }, false)).toBe("s3://lake/x?endpoint=minio%3A9000&tls=false");
  expect(address(target("Webhook"), { host: "https://example.com/hook" }, false)).toBe("https://example.com/hook");
  expect(address(target("MQTT"), { host: "b:8883", path: "out", qos: "1" }, true)).toBe("mqtts://b:8883/out?qos=1");
  expect(address(sourceTargets[0]!, { host: "k:9092", path: "readings", network: "plant" }, true)).toBe("kafka://k:9092/readings?network=plant");
});
