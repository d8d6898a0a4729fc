// A model without a driver, in the browser: begun, its properties edited in the table, refused where a unit is unknown, used by a twin
// whose messages come over HTTP, and kept while that twin has it.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { promisify } from "node:util";

import { open, picture, story } from "./browser.mjs";
import { binary, freePort, start, until } from "./node.mjs";

let dir, node, browser, page, complaints, url, key;

const test = story(() => ({ page, complaints, output: node?.output() }));

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "pollux-e2e-"));
  const [http, mqtt] = [await freePort(), await freePort()];
  node = await start(["serve", "--data", join(dir, "data"), "--http", `127.0.0.1:${http}`, "--mqtt", `127.0.0.1:${mqtt}`, "--gossip", "127.0.0.1:0", "--peer", "127.0.0.1:0"]);
  url = `http://127.0.0.1:${http}`;
  key = (await readFile(join(dir, "data", "admin.key"), "utf8")).trim();
  ({ browser, page, complaints } = await open(dir));
});

after(async () => {
  await browser?.close();
  await node?.stop();
  if (dir) await rm(dir, { recursive: true, force: true });
});

async function cli(...args) {
  const { stdout } = await promisify(execFile)(binary, args, { env: { ...process.env, POLLUX_URL: url, POLLUX_API_KEY: key } });
  return stdout;
}

const box = (name) => page.getByRole("textbox", { name, exact: true });

test("a model is begun and gets a property", async () => {
  await page.goto(url);
  const form = page.getByRole("form", { name: "Sign in" });
  await form.getByLabel("API key").first().fill(key);
  await form.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("navigation", { name: "Rooms" }).getByRole("link", { name: "Models" }).click();
  await box("New model").fill("room");
  await page.getByRole("button", { name: "Begin" }).click();
  await page.getByRole("heading", { name: "default/room" }).waitFor();
  await page.getByRole("button", { name: "Add a property" }).click();
  await box("Name of property1").fill("temperature");
  await box("Name of property1").blur();
  await box("Path of temperature").fill("env.temp");
  await box("Unit of temperature").fill("flibbles");
  await page.getByRole("button", { name: "Create" }).click();
  await page.getByRole("alert").filter({ hasText: "flibbles" }).waitFor();
  await box("Unit of temperature").fill("Cel");
  await box("Unit in messages of temperature").fill("[degF]");
  await page.getByRole("button", { name: "Create" }).click();
  await page.getByRole("button", { name: "Save" }).waitFor();
  const thing = JSON.parse(await cli("model", "get", "room", "--thing"));
  assert.deepEqual(thing.properties.temperature, { type: "number", unit: "Cel", readOnly: true, "pollux:path": "env.temp", "pollux:unit": "[degF]" });
});

test("what is typed stays when somebody else changes the model meanwhile", async () => {
  await box("Title").fill("Room");
  const thing = JSON.parse(await cli("model", "get", "room", "--thing"));
  await writeFile(join(dir, "room.json"), JSON.stringify({ ...thing, title: "Chamber" }));
  await cli("model", "update", "room", "--file", join(dir, "room.json"));
  const told = page.getByRole("status").filter({ hasText: "Somebody has changed this meanwhile" });
  await told.waitFor();
  assert.equal(await box("Title").inputValue(), "Room");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("alert").filter({ hasText: /changed|revision/ }).waitFor();
  await told.getByRole("button", { name: "Show what it is now" }).click();
  await until("the other's title is shown", async () => (await box("Title").inputValue()) === "Chamber");
  await box("Title").fill("Room");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { name: "Room default/room" }).waitFor();
  assert.equal(await told.count(), 0);
});

test("a twin of it is made there, reads its messages, and shows them live", async () => {
  await page.getByRole("button", { name: "Create twin" }).click();
  const form = page.getByRole("form", { name: "Create twin" });
  await form.getByLabel("Id").fill("r1");
  assert.equal(await form.getByRole("combobox", { name: "Model or driver" }).inputValue(), "Room (room)");
  await form.getByRole("button", { name: "Create", exact: true }).click();
  await page.getByRole("heading", { name: "default/r1" }).waitFor();
  await page.getByRole("link", { name: "default/room" }).waitFor();
  const answer = await fetch(`${url}/v1/ingest/default/r1`, {
    method: "POST",
    headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
    body: JSON.stringify({ env: { temp: 68 } }),
  });
  assert.ok(answer.ok, `${answer.status} ${await answer.text()}`);
  await until("the twin has it", async () => /temperature\s+20/.test(await cli("twin", "get", "r1")));
  await page.getByText("temperature").first().waitFor();
});

test("a property of the twin is computed by what its settings say", async () => {
  await page.getByRole("tab", { name: "Settings" }).click();
  const form = page.getByRole("form", { name: "Settings", exact: true });
  await form.getByRole("button", { name: "Compute a property" }).click();
  await form.getByRole("textbox", { name: "Property" }).fill("kelvin");
  await form.getByRole("textbox", { name: "Expression of kelvin" }).fill("temprature + 273.15");
  await form.getByRole("button", { name: "Save" }).click();
  await form.getByRole("alert").filter({ hasText: "Line 1, column 1" }).waitFor();
  await form.getByRole("textbox", { name: "Expression of kelvin" }).fill("twin.properties.temperature + 273.15");
  await form.getByRole("button", { name: "Save" }).click();
  await until("the twin has it", async () => /kelvin\s+293\.15/.test(await cli("twin", "get", "r1")));
});

test("the list of twins shows their values in their units, and only those of the model", async () => {
  await cli("twin", "create", "s1", "--model", "room");
  await page.goto(`${url}/models/default/room`);
  await page.getByRole("link", { name: "2 twins have it" }).click();
  await page.getByRole("row", { name: /r1/ }).getByText("20 °C").waitFor();
  assert.equal(await page.getByRole("combobox", { name: "Filter by driver or model" }).inputValue(), "Room (room)");
  await page.goto(`${url}/twins?model=default%2Fother`);
  await page.getByText("No twin matches.").waitFor();
  await cli("twin", "rm", "s1");
});

test("a model in use stays, and goes when it is not", async () => {
  await page.goto(`${url}/models/default/room`);
  await page.getByRole("button", { name: "Delete" }).click();
  const ask = page.getByRole("dialog");
  await ask.getByRole("button", { name: "Delete model" }).click();
  await ask.getByRole("alert").filter({ hasText: "default/r1" }).waitFor();
  await cli("twin", "rm", "r1");
  await ask.getByRole("button", { name: "Delete model" }).click();
  await until("the model is gone", async () => !(await cli("model", "list")).includes("room"));
});

test("a model that was written as text is a table, too", async () => {
  const properties = {
    temperature: { type: "number", unit: "Cel", readOnly: true, "pollux:path": "/env/temp", "pollux:unit": "[degF]", "pollux:deadband": 0.2, "pollux:stale": 900 },
    humidity: { type: "number", unit: "%", readOnly: true, "pollux:path": "/env/hum", "pollux:deadband": 1 },
    motion: { type: "boolean", readOnly: true, "pollux:path": "/env/pir" },
    setpoint: { type: "number", unit: "Cel", minimum: 5, maximum: 30 },
    scene: { type: "string", enum: ["day", "night"], "pollux:virtual": true },
  };
  await writeFile(join(dir, "sensor.json"), JSON.stringify({ "@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": "tm:ThingModel", title: "Room sensor", properties }));
  await cli("model", "create", "sensor", "--file", join(dir, "sensor.json"));
  for (const name of ["lobby", "hall"]) await cli("twin", "create", name, "--model", "sensor");
  await page.goto(`${url}/models/default/sensor`);
  await page.getByRole("link", { name: "2 twins have it" }).waitFor();
  assert.equal(await box("Path of temperature").inputValue(), "/env/temp");
  assert.equal(await box("Stale of temperature").inputValue(), "900");
  assert.equal(await page.getByRole("checkbox", { name: "scene is virtual" }).isChecked(), true);
  await picture(page, "models");
});

test("more models than a page of the list has are all there; one that is not says so", async () => {
  const thing = '"@context": https://www.w3.org/2022/wot/td/v1.1, "@type": "tm:ThingModel"';
  const file = join(dir, "many.yaml");
  await writeFile(file, Array.from({ length: 1001 }, (_, i) => `---\nmodel: {id: m-${i + 1000}, thing: {${thing}, title: "Model ${i + 1000}"}}\n`).join(""));
  await cli("apply", "-f", file);
  await page.goto(`${url}/models/default/m-2000`);
  await page.getByRole("heading", { name: "Model 2000" }).waitFor();
  await page.getByText("1\u202f002 models").waitFor();
  const list = page.getByRole("region", { name: "Models" });
  await list.getByLabel("Find in Models").fill("model 199");
  await list.getByRole("link", { name: "Model 1990" }).waitFor();
  assert.equal(await list.getByRole("listitem").count(), 10);
  await list.getByLabel("Find in Models").fill("nothing of the kind");
  await list.getByText("None is called so.").waitFor();
  await page.goto(`${url}/models/default/m-2001`);
  await page.getByText("There is no such model yet.").waitFor();
});

test("a list with a schema for each place stays as it is, and what is asked of it is held against its places", async () => {
  const place = { type: "array", items: [{ type: "number", maximum: 90 }, { enum: ["N", "S"] }], "pollux:virtual": true };
  const file = join(dir, "place.json");
  await writeFile(
    file,
    JSON.stringify({
      "@context": "https://www.w3.org/2022/wot/td/v1.1",
      "@type": "tm:ThingModel",
      title: "Place",
      properties: { place, note: { type: "string" } },
      actions: { go: { input: { type: "array", items: [{ type: "number" }, { type: "string" }] } } },
    }),
  );
  await cli("model", "create", "place", "--file", file);
  await page.goto(`${url}/models/default/place`);
  await box("Path of note").fill("text");
  await page.getByRole("button", { name: "Save" }).click();
  const thing = async () => JSON.parse(await cli("model", "get", "place", "--thing"));
  await until("the path is saved", async () => (await thing()).properties.note["pollux:path"] === "text");
  assert.deepEqual((await thing()).properties.place, place);

  await cli("twin", "create", "p1", "--model", "place");
  await page.goto(`${url}/twins/default/p1`);
  await box("Set place").fill('[91, "N"]');
  await box("Set place").press("Enter");
  await page.getByText("must be 90 or less").waitFor();
  await box("Set place").fill('[48.1, "N"]');
  await box("Set place").press("Enter");
  await until("the twin has it", async () => /48\.1/.test(await cli("twin", "get", "p1")));

  const go = page.getByRole("form", { name: "go", exact: true });
  await go.getByRole("textbox", { name: "Go (JSON)" }).fill("[1, 2]");
  await go.getByRole("button", { name: "Run go" }).click();
  await go.getByText("must be text").waitFor();
});
