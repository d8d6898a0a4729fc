// The rooms of what comes in and where it goes, in the browser: Ingest, Inbox, Import,
// Topics, Routes; and of what there is: Zones, Systems, Relations. What the page shows is compared with what the command
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
  const line = `curl -sS -H "Authorization: Bearer $POLLUX_API_KEY" --json '{"temperature": 20.5}' ${h.url}/v1/ingest/default/lobby`;
  await until(line, async () => (await form.getByLabel("Line to copy").textContent()) === line);
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

test("a topic is made, and what is published comes by itself", async () => {
  await page.keyboard.press("Escape");
  await rail("Topics").click();
  const form = page.getByRole("form", { name: "New topic" });
  await form.getByRole("textbox").fill("hot");
  await form.getByRole("button", { name: "Create" }).click();
  const topic = region("Topic default/hot");
  const publish = topic.getByRole("form", { name: "Publish" });
  await publish.getByRole("textbox", { name: "Key" }).fill("a");
  await publish.getByRole("textbox", { name: "Payload" }).fill('{"n": 1}');
  await publish.getByRole("button", { name: "Publish" }).click();
  await topic.getByText("Committed as message 1.").waitFor();
  await h.cli("topic", "publish", "hot", '{"n": 2}', "--key", "a");
  const messages = topic.getByRole("list", { name: "Messages" }).getByRole("listitem");
  await until("both are there, the newest first", async () => /2.*"n": 2.*1.*"n": 1/s.test((await messages.allTextContents()).join("\n")));
});

test("a channel tells how far it is behind, and reads again", async () => {
  const topic = region("Topic default/hot");
  await topic.getByRole("tab", { name: /Channels/ }).click();
  await topic.getByRole("form", { name: "New channel" }).getByRole("textbox").fill("billing");
  await topic.getByRole("button", { name: "Make it" }).click();
  const lag = async () => (await topic.getByRole("row", { name: "billing" }).getByRole("cell").allTextContents())[1];
  await until("two messages wait", async () => (await lag()) === "2");
  await topic.getByRole("button", { name: "What to do with billing" }).click();
  await page.getByRole("menuitem", { name: "What comes from now on" }).click();
  await until("none waits", async () => (await lag()) === "0");
  await topic.getByRole("button", { name: "What to do with billing" }).click();
  await page.getByRole("menuitem", { name: "The oldest message" }).click();
  await until("they wait again", async () => (await lag()) === "2");
});

test("a route is drawn with what passes; a mistake in its condition is shown at its place", async () => {
  await page.getByRole("navigation", { name: "Rooms beside Topics" }).getByRole("link", { name: "Routes" }).click();
  await page.getByRole("button", { name: "New route" }).click();
  const form = page.getByRole("form", { name: "Route" });
  await form.getByRole("textbox", { name: "Name" }).fill("10-hot");
  await form.getByRole("combobox", { name: "To topics" }).click();
  await page.getByRole("option", { name: "default/hot" }).click();
  await page.keyboard.press("Escape");
  await form.getByRole("textbox", { name: "When" }).fill("name == 'temperature' && valu > 30.0");
  await form.getByRole("button", { name: "Create" }).click();
  await form.getByText(/^Line 1, column 26: .*valu/).waitFor();
  const caret = await form.getByRole("textbox", { name: "When" }).evaluate((e) => e.selectionStart);
  assert.equal(caret, 25, "the caret is at the mistake");
  await form.getByRole("textbox", { name: "When" }).fill("name == 'temperature' && value > 30.0");
  await form.getByRole("button", { name: "Create" }).click();
  await form.waitFor({ state: "detached" });
  for (const temperature of [25, 31, 32]) await h.post("default/lobby", { temperature });
  const route = page.getByRole("listitem", { name: "Route 10-hot" });
  await route.getByLabel("seen 3").waitFor();
  await route.getByLabel("matched 2").waitFor();
  assert.match(await h.cli("topic", "route", "list"), /10-hot.*3\s+2\s+0/);
  await h.cli("topic", "create", "texts");
  await h.cli("topic", "route", "put", "20-odd", "--to", "texts", "--property", "temperature", "--when", "value.size() > 1");
  await h.post("default/lobby", { temperature: 18 });
  await page.getByRole("listitem", { name: "Route 20-odd" }).getByText("1 could not be told").waitFor();
});

test("a route's dead letter says why, and goes through the mended route", async () => {
  const route = page.getByRole("listitem", { name: "Route 20-odd" });
  await route.getByRole("button", { name: "1 dead letter" }).click();
  const letter = route.getByRole("table", { name: "Dead letters" }).getByRole("row").nth(1);
  await letter.getByText("route default/20-odd", { exact: true }).waitFor();
  await letter.getByText(/do not go together/).waitFor();
  assert.match(await h.cli("topic", "route", "dead", "20-odd"), /lobby\s+texts\s+the values that it got do not go together.*"value":18/);
  await picture(page, "routes");
  await route.getByRole("button", { name: "Replay all" }).click();
  await route.getByText(/^0 published, 0 passed over, 1 failed again/).waitFor();
  await h.cli("topic", "route", "put", "20-odd", "--to", "texts", "--property", "temperature", "--when", "value > 1.0");
  await route.getByRole("button", { name: "Replay all" }).click();
  await route.getByText(/^1 published, 0 passed over, 0 failed again/).waitFor();
  assert.match(await h.cli("topic", "tail", "texts", "--oldest", "--no-follow"), /"value":18/);
});

test("what a reader gives up says why, and is published again", async () => {
  await h.cli("topic", "channel", "put", "texts", "strict", "--oldest", "--attempts", "1", "--timeout", "1s");
  const reader = h.cli("topic", "tail", "texts", "--channel", "strict", "--no-ack").catch(() => {}); // it ends with its channel
  await page.goto(`${h.url}/topics/default/texts`);
  const topic = region("Topic default/texts");
  await topic.getByRole("tab", { name: "Dead letters 1" }).click();
  const letter = topic.getByRole("table", { name: "Dead letters" }).getByRole("row").nth(1);
  await letter.getByText("channel strict, after 1 attempt", { exact: true }).waitFor();
  await picture(page, "topics");
  await topic.getByRole("button", { name: "Replay all" }).click();
  await topic.getByText(/^1 published again/).waitFor();
  await h.cli("topic", "channel", "rm", "texts", "strict");
  await reader;
});

test("zones are made as a tree, and one with something in it stays", async () => {
  await rail("Site").click();
  await page.getByRole("button", { name: "New zone" }).click();
  let form = page.getByRole("form", { name: "New zone" });
  await form.getByRole("textbox", { name: "Id" }).fill("hq");
  await form.getByRole("textbox", { name: "Title" }).fill("Headquarters");
  await form.getByRole("button", { name: "Create" }).click();
  await region("Zone default/hq").getByRole("button", { name: "Add a zone in it" }).click();
  form = page.getByRole("form", { name: "New zone" });
  await form.getByRole("textbox", { name: "Id" }).fill("default/cellar");
  await form.getByRole("button", { name: "Create" }).click();
  const leaf = page.getByRole("tree", { name: "Zones" }).getByRole("treeitem", { name: "cellar" });
  await leaf.waitFor();
  assert.equal(await leaf.getAttribute("aria-level"), "2");
  await page.getByRole("tree", { name: "Zones" }).getByRole("button", { name: /^Headquarters/ }).click();
  const zone = region("Zone default/hq");
  await zone.getByRole("textbox", { name: "Place" }).fill("here");
  await zone.getByRole("button", { name: "Save" }).click();
  await zone.getByRole("alert").filter({ hasText: "is no place" }).waitFor();
  await zone.getByRole("textbox", { name: "Place" }).fill("52.52, 13.41");
  await zone.getByRole("button", { name: "Save" }).click();
  await until("it has a place", async () => /52\.52,\s*13\.41/.test(await h.cli("zone", "get", "hq")));
  await zone.getByRole("textbox", { name: "Title" }).fill("Head office");
  await zone.getByRole("button", { name: "Save" }).click();
  await zone.getByRole("heading", { name: /^Head office/ }).waitFor();
  assert.match(await h.cli("zone", "get", "hq"), /52\.52,\s*13\.41/, "the place stays");
  await zone.getByRole("button", { name: "Delete" }).click();
  await dialog().getByRole("button", { name: "Delete zone" }).click();
  await dialog().getByRole("alert").waitFor();
  await dialog().getByRole("button", { name: "Keep it" }).click();
  assert.match(await h.cli("zone", "list"), /cellar/);
  await picture(page, "site");
  await page.getByRole("tree", { name: "Zones" }).getByRole("button", { name: /^Great hall/ }).click();
  await page.getByRole("list", { name: "Twins in it" }).getByText("Connectionless").waitFor();
});

test("a system is stopped as one", async () => {
  await page.getByRole("link", { name: "Systems" }).click();
  await page.getByRole("button", { name: "New system" }).click();
  const form = page.getByRole("form", { name: "New system" });
  await form.getByRole("textbox", { name: "Id" }).fill("hall");
  for (const [i, twin] of ["lobby", "sensor-1"].entries()) {
    await form.getByRole("button", { name: "Add a member" }).click();
    await form.getByLabel(`Name of member ${i + 1}`).fill(`Sensor_${i + 1}`);
    await form.getByLabel(`Twin of member ${i + 1}`).fill(`default/${twin}`);
  }
  await form.getByRole("button", { name: "Create" }).click();
  const system = region("System default/hall");
  await system.getByRole("button", { name: "Stop all" }).click();
  await system.getByRole("row", { name: "Sensor_2" }).getByText("stopped", { exact: true }).waitFor();
  assert.equal(JSON.parse(await h.cli("twin", "get", "sensor-1", "-o", "json")).stopped, true);
  await system.getByRole("button", { name: "Start all" }).click();
  await system.getByRole("row", { name: "Sensor_2" }).getByText("started", { exact: true }).waitFor();
});

test("a system is called as one, and says of each member how it went", async () => {
  const file = join(h.dir, "greeter.js");
  await writeFile(file, "export default logic({ name: 'greeter', version: '1.0.0', actions: { greet: { input: 'string', output: 'string', run: (twin, who) => `hello ${who}` } } });");
  await h.cli("logic", "push", file);
  await h.cli("system", "put", "desk", "--member", "Greeter_1=greeter", "--member", "Sensor_1=sensor-1");
  await page.goto(`${h.url}/systems/default/desk`);
  const system = region("System default/desk");
  await system.getByRole("row", { name: "Sensor_1" }).getByText("Connectionless").waitFor();
  const form = system.getByRole("form", { name: "Call" });
  await form.getByLabel("Action").fill("greet");
  await form.getByLabel("Input").fill('"all"');
  await form.getByRole("button", { name: "Call" }).click();
  await system.getByRole("row", { name: "Greeter_1" }).getByText("greet: done, hello all").waitFor();
  await system.getByRole("row", { name: "Sensor_1" }).locator(".bad").waitFor();
});

test("a relation is made, and walked along", async () => {
  await page.getByRole("link", { name: "Relations" }).click();
  const form = page.getByRole("form", { name: "New relation" });
  await form.getByRole("combobox", { name: "From" }).fill("sensor-1");
  await form.getByRole("combobox", { name: "Type" }).fill("heats");
  await form.getByRole("combobox", { name: "To" }).fill("nothing");
  await form.getByRole("button", { name: "Relate" }).click();
  await form.getByRole("alert").getByText(/nothing/).waitFor();
  await form.getByRole("combobox", { name: "To" }).fill("lobby");
  await form.getByRole("button", { name: "Relate" }).click();
  await page.getByRole("row", { name: "default/sensor-1/heats/lobby" }).waitFor();
  assert.match(await h.cli("relation", "list"), /heats/);
  await page.getByRole("button", { name: /^Edit .*heats/ }).first().click();
  const change = page.getByRole("form", { name: "Change relation" });
  await change.getByLabel("Title").fill("Main loop");
  await change.getByLabel("Attributes").fill('{"length": 12');
  await change.getByRole("button", { name: "Save" }).click();
  await change.getByRole("alert").filter({ hasText: "no JSON" }).waitFor();
  await change.getByLabel("Attributes").fill('{"length": 12}');
  await change.getByRole("button", { name: "Save" }).click();
  await change.waitFor({ state: "detached" });
  await page.getByRole("table", { name: "Relations" }).getByText("Main loop").waitFor();
  const walk = region("Walk");
  await walk.getByRole("button", { name: "Go" }).click();
  for (const step of [/^Great hall/, /^sensor-1/, "heats →", /^lobby/]) await walk.getByRole("button", { name: step }).click();
  await walk.getByRole("link", { name: "Open default/lobby" }).waitFor();
  await walk.getByRole("button", { name: "← heats" }).waitFor();
  await picture(page, "relations");
});

test("a file is tried before it is applied, and a project is kept as one", async () => {
  await rail("Ingest").click();
  await page.getByRole("link", { name: "Import" }).click();
  const csv = "id,model,zone,labels.floor\nm1,room,aula,1\nm2,room,nowhere,1\nm3,room\nlobby,room,aula,0\n";
  await page.getByLabel("CSV or YAML file").setInputFiles({ name: "lamps.csv", mimeType: "text/csv", buffer: Buffer.from(csv) });
  const report = page.getByRole("table", { name: "Report" });
  await report.getByRole("row", { name: "default/m1" }).getByText("would be created").waitFor();
  await report.getByText("2 cells, and 4 columns are named").waitFor();
  await report.getByRole("row", { name: "default/m2" }).getByText(/nowhere/).waitFor();
  assert.match(await report.getByRole("row", { name: "default/lobby" }).getByRole("list").textContent(), /zone: – → "default\/aula"/);
  await page.getByText("dry run: nothing was changed").waitFor();
  assert.doesNotMatch(await h.cli("twin", "list"), /m1/, "a dry run changes nothing");
  await picture(page, "import");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText("applied", { exact: true }).waitFor();
  await report.getByRole("row", { name: "default/m1" }).getByText("created", { exact: true }).waitFor();
  assert.match(await h.cli("twin", "list"), /m1/);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export default" }).click()]);
  assert.equal(download.suggestedFilename(), "default.yaml");
  const file = join(h.dir, "default.yaml");
  await download.saveAs(file);
  assert.match(await h.cli("apply", "-f", file, "--dry-run"), /unchanged/);
  assert.doesNotMatch(await h.cli("apply", "-f", file, "--dry-run"), /^[+~!]/m, "what was exported is what there is");
  await page.getByLabel("CSV or YAML file").setInputFiles(file);
  await page.getByText("dry run: nothing was changed").waitFor();
  await page.getByText("Wrong 0").waitFor();
  await page.getByText("New 0").waitFor();
});

test("a list of aliases gives each to its twin, and a YAML list is one, too", async () => {
  await rail("Ingest").click();
  await page.getByRole("link", { name: "Import" }).click();
  const report = page.getByRole("table", { name: "Report" });
  const choose = (name, text) => page.getByLabel("CSV or YAML file").setInputFiles({ name, mimeType: "text/plain", buffer: Buffer.from(text) });
  await choose("aliases.csv", "network,key,value,twin\nlora,eui,007,lobby\nlora,eui,008,nobody\n");
  await report.getByRole("row", { name: "default/lora/eui/007" }).getByText("would be created").waitFor();
  await report.getByRole("row", { name: "default/lora/eui/008" }).getByText(/nobody/).waitFor();
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText("applied", { exact: true }).waitFor();
  assert.match(await h.cli("alias", "get", "lora/eui/007"), /lobby/);
  await choose("aliases.yaml", "- {network: lora, key: eui, value: 007, twin: m1}\n");
  const moved = report.getByRole("row", { name: "default/lora/eui/007" });
  assert.match(await moved.getByRole("list").textContent(), /twin: default\/lobby → default\/m1/);
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText("applied", { exact: true }).waitFor();
  assert.match(await h.cli("alias", "get", "lora/eui/007"), /m1/);
});

test("the project chosen in one room is the one that the next begins with", async () => {
  await h.cli("project", "create", "hotel");
  await rail("Projects").click();
  await region("Projects").getByText("hotel", { exact: true }).first().click();
  await rail("Ingest").click();
  await page.getByRole("link", { name: "Import" }).click();
  const project = page.getByRole("textbox", { name: "Project", exact: true });
  await until("the project is the chosen one", async () => (await project.inputValue()) === "hotel");
  const report = page.getByRole("table", { name: "Report" });
  await page.getByLabel("CSV or YAML file").setInputFiles({ name: "zones.csv", mimeType: "text/csv", buffer: Buffer.from("id,kind,title\nattic,room,Attic\n") });
  await report.getByRole("row", { name: "hotel/attic" }).getByText("would be created").waitFor();
  await project.fill("");
  await page.getByRole("button", { name: "Export default" }).waitFor();
});

test("a computed property says its formula, and why it has no value", async () => {
  await h.cli("twin", "create", "floor", "--model", "room", "--derived", 'mean=avg(twins("lobby").temperature)', "--derived", 'none=avg(related("feeds").power)');
  await page.goto(`${h.url}/twins/default/floor`);
  const row = (name) => page.getByRole("row", { name, exact: true });
  await row("mean").getByText('= avg(twins("lobby").temperature)').waitFor();
  await row("none").getByText("no twin that it is computed of has a good value").waitFor();
  await h.post("default/lobby", { temperature: 23 });
  await row("mean").getByText(/^23/).first().waitFor();
});

test("the browser's console is silent", () => assert.deepEqual(h.complaints, []));
