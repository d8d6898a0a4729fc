// Twins without devices, and where what they say goes: a simulation is written, steered and begun again; a sink takes it to files.
// What the page did is compared with what the command line says of the same node.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before } from "node:test";

import { picture, story } from "./browser.mjs";
import { house } from "./house.mjs";

let h, page;

const test = story(() => ({ page, complaints: h?.complaints, output: h?.node.output() }));

const model = {
  "@context": ["https://www.w3.org/2022/wot/td/v1.1", { pollux: "https://pollux.dev/ns#" }],
  "@type": "tm:ThingModel",
  title: "Room",
  properties: { temperature: { type: "number", unit: "Cel", readOnly: true } },
};

before(async () => {
  h = await house();
  page = h.page;
  await writeFile(join(h.dir, "room.json"), JSON.stringify(model));
  await h.cli("model", "create", "room", "--file", join(h.dir, "room.json"));
  await h.cli("topic", "create", "changes");
  await h.cli("topic", "route", "put", "all", "--to", "changes");
});

after(() => h?.close());

const region = (name) => page.getByRole("region", { name, exact: true });
const rail = (name) => page.getByRole("navigation", { name: "Rooms", exact: true }).getByRole("link", { name, exact: true });
const json = async (...words) => JSON.parse(await h.cli(...words, "-o", "json"));
const fact = (of, name) => of.locator("dl.facts > div").filter({ has: page.getByText(name, { exact: true }) }).locator("dd");

test("a simulation is written in the browser; the node says what is wrong with it", async () => {
  await rail("Ingest").click();
  await page.getByRole("navigation", { name: "Rooms beside Ingest" }).getByRole("link", { name: "Simulator" }).click();
  await page.getByRole("button", { name: "New simulation" }).click();
  const form = page.getByRole("form", { name: "New simulation" });
  await form.getByRole("textbox", { name: "Name" }).fill("office");
  await form.getByRole("combobox", { name: "Model" }).fill("room");
  const scenario = form.getByRole("textbox", { name: "Scenario" });
  const good = await scenario.inputValue();
  await scenario.fill(good.replace("smooth", "jump"));
  await form.getByRole("button", { name: "Create" }).click();
  await page.getByRole("alert").filter({ hasText: "want step, linear or smooth" }).waitFor();
  await scenario.fill(good);
  await form.getByRole("button", { name: "Create" }).click();
  await region("Simulation default/office").waitFor();
  assert.match(await h.cli("sim", "list"), /office/);
});

test("it is sped up, stands, and begins again", async () => {
  const it = region("Simulation default/office");
  await it.getByText("600", { exact: true }).click();
  await page.waitForFunction(() => Number([...document.querySelectorAll("dl.facts > div")].find((d) => d.querySelector("dt")?.textContent === "Stored")?.querySelector("dd")?.textContent.replace(/\D/g, "") ?? 0) >= 100);
  assert.equal((await json("twin", "get", "room-10")).state.properties.temperature.quality, "QUALITY_GOOD");
  await picture(page, "simulator");
  await it.getByRole("button", { name: "Pause" }).click();
  await it.getByRole("button", { name: "Start" }).waitFor();
  assert.equal((await json("sim", "get", "office")).paused, true);
  await it.getByRole("button", { name: "Reset" }).click();
  await fact(it, "Stored").getByText("0", { exact: true }).waitFor();
  await it.getByRole("button", { name: "Start" }).click();
  await it.getByRole("button", { name: "Pause" }).waitFor();
});

test("what was recorded is played to another twin", async () => {
  await page.getByRole("button", { name: "New simulation" }).click();
  const form = page.getByRole("form", { name: "New simulation" });
  await form.getByRole("textbox", { name: "Name" }).fill("replay");
  await form.getByRole("combobox", { name: "Model" }).fill("room");
  await form.getByRole("textbox", { name: "Scenario" }).fill("twins: [copy]\nevery: 1s\nrepeat: false\nrecord: {csv: here}\n");
  await form.getByRole("textbox", { name: "Recorded values" }).fill("time,temperature\n0,7\n1,8\n");
  await form.getByRole("button", { name: "Create" }).click();
  const it = region("Simulation default/replay");
  await fact(it, "State").getByText("over", { exact: true }).waitFor();
  assert.equal((await json("twin", "get", "copy")).state.properties.temperature.value, 8);
  await it.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete simulation" }).click();
  await it.waitFor({ state: "detached" });
  assert.doesNotMatch(await h.cli("sim", "list"), /replay/);
});

test("a sink takes a topic to files, and says how far it is", async () => {
  await rail("Topics").click();
  await page.getByRole("navigation", { name: "Rooms beside Topics" }).getByRole("link", { name: "Sinks" }).click();
  await page.getByRole("button", { name: "New sink" }).click();
  const form = page.getByRole("form", { name: "New sink" });
  await form.getByRole("textbox", { name: "Name" }).fill("lake");
  await form.getByRole("combobox", { name: "Topic" }).fill("default/changes");
  await form.getByRole("textbox", { name: "Folder" }).fill("../lake");
  await form.getByRole("button", { name: "Create" }).click();
  await page.getByRole("alert").first().waitFor();
  await form.getByRole("textbox", { name: "Folder" }).fill("lake");
  await form.getByRole("checkbox", { name: /oldest/ }).check();
  await form.getByRole("button", { name: "Create" }).click();
  const it = region("Sink default/lake");
  await it.getByText("file:lake").waitFor();
  await picture(page, "sinks");
  await it.getByRole("button", { name: "Pause" }).click();
  await it.getByRole("button", { name: "Resume" }).waitFor();
  assert.equal((await json("sink", "get", "lake")).paused, true);
});

test("a sink is changed, against what it was when the change began", async () => {
  const it = region("Sink default/lake");
  await it.getByRole("button", { name: "Edit" }).click();
  const form = page.getByRole("form", { name: "Change default/lake" });
  await form.getByRole("textbox", { name: "Title" }).fill("The lake");
  await h.cli("sink", "resume", "lake");
  await it.getByRole("button", { name: "Pause" }).waitFor();
  await form.getByRole("button", { name: "Save" }).click();
  await form.getByRole("alert").waitFor();
  await form.getByRole("button", { name: "Cancel" }).click();
  await it.getByRole("button", { name: "Edit" }).click();
  await form.getByRole("textbox", { name: "Title" }).fill("The lake");
  await form.getByRole("button", { name: "Save" }).click();
  await it.getByRole("heading", { name: "The lake" }).waitFor();
  const sink = await json("sink", "get", "lake");
  assert.deepEqual([sink.title, sink.url, sink.paused ?? false, sink.oldest], ["The lake", "file:lake", false, true]);
});

test("a source is made of its fields, and says why it waits", async () => {
  await page.getByRole("navigation", { name: "Rooms beside Sinks" }).getByRole("link", { name: "Sources" }).click();
  await page.getByRole("button", { name: "New source" }).click();
  const form = page.getByRole("form", { name: "New source" });
  await form.getByRole("textbox", { name: "Name" }).fill("plant");
  await form.getByRole("textbox", { name: "Brokers" }).fill("127.0.0.1:1");
  await form.getByRole("textbox", { name: "Topic" }).fill("readings");
  await form.getByRole("textbox", { name: "Alias network" }).fill("plant");
  await form.getByRole("button", { name: "Create" }).click();
  const it = region("Source default/plant");
  await it.getByRole("alert").filter({ hasText: /failing since/ }).waitFor();
  assert.match(await h.cli("source", "list"), /kafka:\/\/127.0.0.1:1\/readings\?network=plant/);
  await it.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete source" }).click();
  await it.waitFor({ state: "detached" });
});
