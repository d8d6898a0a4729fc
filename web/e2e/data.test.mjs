// The rooms of what comes in and where it goes, in the browser: Ingest, Inbox. What the page shows is compared with what the command
// line says of the same node.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before } from "node:test";

import { picture, story } from "./browser.mjs";
import { house } from "./house.mjs";
import { until } from "./node.mjs";

let h, page;

const test = story(() => ({ page, complaints: h?.complaints, output: h?.node.output() }));

const model = {
  "@context": ["https://www.w3.org/2022/wot/td/v1.1", { pollux: "https://pollux.dev/ns#" }],
  "@type": "tm:ThingModel",
  title: "Room sensor",
  properties: { temperature: { type: "number", unit: "Cel", readOnly: true }, setpoint: { type: "number", unit: "Cel", minimum: 5, maximum: 30 } },
};

before(async () => {
  h = await house();
  page = h.page;
  await writeFile(join(h.dir, "room.json"), JSON.stringify(model));
  await h.cli("model", "create", "room", "--file", join(h.dir, "room.json"));
  await h.cli("zone", "put", "aula", "--kind", "room", "--title", "Great hall");
  await h.cli("twin", "create", "lobby", "--model", "room");
});

after(() => h?.close());

const rail = (name) => page.getByRole("navigation", { name: "Rooms", exact: true }).getByRole("link", { name, exact: true });
const region = (name) => page.getByRole("region", { name, exact: true });
const dialog = () => page.getByRole("dialog");

test("an empty Ingest room sends a first message, and its line to copy works as written", async () => {
  await rail("Ingest").click();
  const form = page.getByRole("form", { name: "Message" });
  await form.getByText("For a twin").click();
  await form.getByRole("textbox", { name: "What it says" }).fill('{"temperature": 20.5}');
  const line = await form.getByLabel("Line to copy").textContent();
  assert.equal(line, `curl -sS -H "Authorization: Bearer $POLLUX_API_KEY" --json '{"temperature": 20.5}' ${h.url}/v1/ingest/default/lobby`);
  await form.getByRole("button", { name: "Send" }).click();
  await page.getByRole("table", { name: "Doors" }).getByRole("row", { name: "default connect" }).waitFor();
  assert.match(await h.cli("twin", "get", "lobby"), /temperature\s+20\.5/);
});

test("messages by door add up, and a refusal says why", async () => {
  assert.equal((await h.post("default/lobby", { temperature: 21 })).stored, 1);
  assert.equal((await h.post("default/lobby", { temperature: "warm" })).refused, 1);
  assert.equal((await h.post("default/nobody", { temperature: 1 })).refused, 1);
  await until("the command line counts them", async () => {
    const { counts } = JSON.parse(await h.cli("ingest", "status", "-o", "json"));
    const http = counts.find((c) => c.door === "http");
    return http && [http.received, http.stored, http.refused].join(" ") === "3 1 2";
  });
  const cells = page.getByRole("row", { name: "default http" }).getByRole("cell");
  await until("the page has the same figures", async () => (await cells.allTextContents()).slice(4).join(" ") === "3 1 2 0 0 0");
  const figures = page.getByLabel("Messages", { exact: true });
  await until("they add up", async () => (await figures.textContent()) === "Received4=Stored2+Refused2+Inbox0+Duplicate0+In flight0");
  const refusal = page.getByRole("table", { name: "Refusals" }).getByRole("row").filter({ hasText: "wrong_type" });
  await refusal.getByText('temperature: "warm" is no number').waitFor();
  await refusal.getByRole("button").click();
  await region("Refused").locator("pre").filter({ hasText: '{"temperature":"warm"}' }).waitFor();
  await page.goto(`${h.url}/ingest?code=unknown_twin`);
  await page.getByRole("table", { name: "Refusals" }).getByText("default/nobody", { exact: true }).waitFor();
  assert.equal(await page.getByRole("table", { name: "Refusals" }).getByText("wrong_type").count(), 0);
  await page.goto(`${h.url}/ingest`);
  await page.getByRole("table", { name: "Refusals" }).getByText("wrong_type").waitFor();
  await picture(page, "ingest", 5000);
});

test("an unknown sender is claimed, another ignored", async () => {
  for (const n of [1, 2, 3]) await h.post("default/lora/eui/70b3d5", { temperature: 20 + n });
  await h.post("default/lora/eui/noise", { rssi: -90 });
  await page.keyboard.press("g");
  await page.keyboard.press("b");
  await page.getByRole("button", { name: "70b3d5" }).click();
  const sender = region("Sender default/lora/eui/70b3d5");
  await sender.getByText(/^3 messages/).waitFor();
  assert.deepEqual(await sender.getByRole("list", { name: "Samples" }).getByRole("listitem").allTextContents(), ['{"temperature":23}', '{"temperature":22}', '{"temperature":21}']);
  await picture(page, "inbox");
  await page.getByRole("button", { name: "noise" }).click();
  await region("Sender default/lora/eui/noise").getByRole("button", { name: "Ignore" }).click();
  await page.getByRole("button", { name: "noise" }).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "70b3d5" }).click();
  const form = page.getByRole("form", { name: "Make a twin of it" });
  await form.getByLabel("Name", { exact: false }).first().fill("sensor-1");
  await form.getByRole("combobox", { name: "Model or driver" }).click();
  await page.getByRole("option", { name: "Room sensor (room)" }).click();
  await form.getByRole("combobox", { name: "Zone" }).fill("default/aula");
  await form.getByRole("button", { name: "Claim" }).click();
  await page.getByRole("heading", { name: "default/sensor-1" }).waitFor();
  const twin = JSON.parse(await h.cli("twin", "get", "sensor-1", "-o", "json"));
  assert.deepEqual([twin.model, twin.zone, twin.aliases], ["default/room", "default/aula", [{ network: "lora", key: "eui", value: "70b3d5" }]]);
  assert.match(await h.cli("inbox", "list", "--ignored"), /noise/);
});

test("a rule makes twins of senders to come", async () => {
  await page.goto(`${h.url}/inbox`);
  await page.getByRole("button", { name: "Make a rule" }).click();
  const rule = page.getByRole("form", { name: "New rule" });
  await rule.getByRole("textbox", { name: "Network" }).fill("lora");
  await rule.getByRole("textbox", { name: "Key" }).fill("eui");
  await rule.getByRole("textbox", { name: "Twin’s name" }).fill("auto-{value}");
  await rule.getByRole("combobox", { name: "Model or driver" }).click();
  await page.getByRole("option", { name: "Room sensor (room)" }).click();
  await rule.getByRole("button", { name: "Add the rule" }).click();
  await page.getByRole("list", { name: "Rules" }).getByText("auto-{value}").waitFor();
  await h.post("default/lora/eui/a9", { temperature: 19 });
  await until("the twin is made", async () => /temperature\s+19/.test(await h.cli("twin", "get", "auto-a9").catch(() => "")));
});

test("the browser's console is silent", () => assert.deepEqual(h.complaints, []));
