// The console in headless Chromium against a real node and a simulated projector. What a person does is done by
// roles and labels; whether it worked is read from the simulator's own journal, not from the page.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { promisify } from "node:util";

import { open, picture as takePicture, story } from "./browser.mjs";
import { binary, freePort, root, start, until } from "./node.mjs";

let dir, node, sim, browser, page, complaints, url, projector, journal;
let others = [];

/** What nodes say to each other needs no port that somebody knows. */
const inside = ["--gossip", "127.0.0.1:0", "--peer", "127.0.0.1:0"];

const test = story(() => ({ page, complaints, output: node?.output() }));

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "pollux-e2e-"));
  journal = join(dir, "projector.jsonl");
  const [http, mqtt, device] = [await freePort(), await freePort(), await freePort()];
  projector = `tcp://127.0.0.1:${device}`;
  sim = await start(["sim", "pjlink", "--listen", `127.0.0.1:${device}`, "--password", "secret", "--log", journal, "--warm-up", "1s", "--lamp-hour", "1s"]);
  node = await start(["serve", "--data", join(dir, "data"), "--http", `127.0.0.1:${http}`, "--mqtt", `127.0.0.1:${mqtt}`, ...inside]);
  url = `http://127.0.0.1:${http}`;
  ({ browser, page, complaints } = await open(dir));
});

after(async () => {
  await browser?.close();
  for (const process of others) await process.stop();
  await node?.stop();
  await sim?.stop();
  if (dir) await rm(dir, { recursive: true, force: true });
});

/** What the simulator was told and did, as it wrote it down itself. */
async function entries() {
  const text = await readFile(journal, "utf8");
  return text.split("\n").filter((l) => l.endsWith("}")).map((l) => JSON.parse(l));
}

const told = (command) => until(`the projector is told ${command}`, async () => (await entries()).filter((e) => e.event === "told" && e.text.includes(command)).length);

const picture = (name) => takePicture(page, name);

const reported = (name) => page.getByRole("table", { name: "Properties" }).getByRole("row", { name, exact: true }).getByRole("cell").first();

test("a page without a key asks for one, and says when it is wrong", async () => {
  await page.goto(url);
  const form = page.getByRole("form", { name: "Sign in" });
  await form.getByLabel("API key").first().fill("plx_wrong");
  await form.getByRole("button", { name: "Sign in" }).click();
  assert.match(await form.getByRole("alert").textContent(), /\w{3}/, "a wrong key is refused with a sentence");
  await picture("signin");
  const key = (await readFile(join(dir, "data", "admin.key"), "utf8")).trim();
  await form.getByLabel("API key").first().fill(key);
  await form.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.getByRole("region", { name: "Begin" }).getByRole("link", { name: "Create a twin" }).click();
  await page.getByRole("heading", { name: "Twins" }).waitFor();
  await page.getByText("No twins yet.").waitFor();
});

/** Drops a file on the page as a person does: the browser's own drag events with a file in them. */
async function drop(name, bytes) {
  const data = await page.evaluateHandle(
    ({ name, base64 }) => {
      const transfer = new DataTransfer();
      const content = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      transfer.items.add(new File([content], name, { type: "application/wasm" }));
      return transfer;
    },
    { name, base64: bytes.toString("base64") },
  );
  const target = page.getByRole("region", { name: "Upload drivers" });
  for (const type of ["dragenter", "dragover", "drop"]) await target.dispatchEvent(type, { dataTransfer: data });
}

test("a driver is uploaded by drag and drop, and what is no driver is refused with a reason", async () => {
  await page.getByRole("navigation", { name: "Rooms" }).getByRole("link", { name: "Drivers" }).click();
  const uploads = page.getByRole("list", { name: "Uploads" });
  await drop("notes.wasm", Buffer.from("these are notes"));
  await uploads.getByText("is neither JavaScript").waitFor();
  await drop("empty.wasm", Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]));
  await until("the node refuses a module without a manifest", async () => (await uploads.getByRole("alert").count()) === 2);
  const refusal = await uploads.getByRole("alert").filter({ hasText: "empty.wasm" }).textContent();
  assert.match(refusal, /manifest|section|contract|export/i, "the refusal says what is missing");
  await drop("pjlink.wasm", await readFile(join(root, "bin/drivers/pjlink.wasm")));
  await uploads.getByRole("link", { name: /^pjlink \d+\.\d+\.\d+$/ }).waitFor();
  await page.getByRole("button", { name: "Clear the list" }).click();
  await page.getByRole("region", { name: "Catalogue" }).getByRole("button", { name: "Add tasmota" }).click();
  const installed = page.getByRole("region", { name: "Installed drivers" });
  await installed.getByRole("link", { name: /tasmota/ }).waitFor();
  await installed.getByRole("link", { name: /pjlink/ }).click();
  await page.getByRole("region", { name: "Driver pjlink" }).getByRole("table", { name: "Actions" }).waitFor();
});

test("a twin is created, connects with its password, and its values live", async () => {
  await page.getByRole("region", { name: "Driver pjlink" }).getByRole("button", { name: "Create twin" }).click();
  const form = page.getByRole("form", { name: "Create twin" });
  await form.getByLabel("Id").fill("lecture-hall-1");
  await form.getByLabel("Address").fill(projector);
  await form.getByRole("textbox", { name: "Password" }).fill("secret");
  await form.getByRole("textbox", { name: "Poll interval" }).fill("1");
  await form.getByRole("button", { name: "Create", exact: true }).click();
  await form.getByText("must be 2 or more").waitFor();
  await form.getByRole("textbox", { name: "Poll interval" }).fill("2");
  await form.getByRole("button", { name: "Create", exact: true }).click();
  await page.getByRole("heading", { name: "default/lecture-hall-1" }).waitFor();
  await page.getByText("Connected", { exact: true }).waitFor();
  await until("the projector is off", async () => (await reported("power").textContent()).startsWith("off"));
  assert.ok((await entries()).some((e) => e.event === "connected"), "the simulator saw a connection");
});

test("power is pressed, and the projector is told", async () => {
  const before = (await entries()).filter((e) => e.event === "told" && e.text.includes("POWR 1")).length;
  assert.equal(before, 0);
  const power = page.getByRole("form", { name: "power" });
  await power.getByText("On", { exact: true }).last().click();
  await power.getByRole("button", { name: "Run power" }).click();
  assert.equal(await told("POWR 1"), 1, "told once");
  await power.getByText("done").waitFor();
  await until("the page shows it on", async () => (await reported("power").textContent()).startsWith("on"));
});

test("a value is asked and confirmed by the device", async () => {
  const row = page.getByRole("row", { name: "mute", exact: true });
  // A projector mutes when its lamp burns.
  await until("the lamp burns", async () => (await reported("power_state").textContent()).startsWith("on"));
  await row.getByRole("switch", { name: "Set mute" }).click({ force: true });
  await told("AVMT 31");
  await row.getByText("confirmed").waitFor();
  await until("the page shows it", async () => (await reported("mute").textContent()).startsWith("on"));
});

test("the chart draws what was and goes on with what comes", async () => {
  await page.getByRole("button", { name: "Chart lamp_hours" }).click();
  const chart = page.getByRole("region", { name: "History of lamp_hours" });
  const points = async () => Number((await chart.getByText(/\d+ samples/).textContent()).match(/(\d+) samples/)[1]);
  const first = await until("two samples", async () => ((await points()) >= 2 ? await points() : 0));
  await until("more samples than before, without a reload", async () => (await points()) > first);
  await page.reload();
  await page.getByRole("button", { name: "Chart lamp_hours" }).click();
  await until("history is there after a reload", async () => (await points()) >= first);
  await page.getByRole("form", { name: "refresh" }).getByRole("button", { name: "Run refresh" }).click();
  await page.getByRole("form", { name: "refresh" }).getByText("done").waitFor();
});

test("a wrong argument never reaches the device", async () => {
  const input = page.getByRole("form", { name: "input" });
  await input.getByRole("button", { name: "Run input" }).click();
  await input.getByText("is needed").waitFor();
  assert.ok(!(await entries()).some((e) => e.event === "told" && /INPT \d/.test(e.text)), "nothing was sent");
  // The twin refined its model: it offers the inputs that this projector has.
  await input.getByRole("combobox", { name: "Input" }).click();
  await page.getByRole("option", { name: "rgb1" }).click();
  await input.getByRole("button", { name: "Run input" }).click();
  await told("INPT 11");
  await input.getByText("done").waitFor();
});

test("a command that nobody waits for is listed until it is done", async () => {
  const input = page.getByRole("form", { name: "input" });
  await input.getByRole("combobox", { name: "Input" }).click();
  await page.getByRole("option", { name: "rgb2" }).click();
  await input.getByRole("button", { name: "Options of input" }).click();
  await input.getByText("Do not wait").waitFor();
  await input.getByRole("switch", { name: "Do not wait" }).press("Space");
  await until("it is on", () => input.getByRole("switch", { name: "Do not wait" }).isChecked());
  await input.getByRole("button", { name: "Run input" }).click();
  await input.getByRole("status").getByText("queued").waitFor();
  await told("INPT 12");
  const commands = page.getByRole("list", { name: "Commands that nobody waits for" });
  await commands.getByRole("listitem").filter({ hasText: "input" }).getByText("done").waitFor();
  await page.reload();
  await commands.getByRole("listitem").filter({ hasText: "input" }).getByText("done").waitFor();
});

test("the wire shows every byte, pauses and clears", async () => {
  await page.getByRole("tab", { name: "Wire" }).click();
  const frames = page.getByRole("log", { name: "Frames" });
  await frames.getByText("%1POWR ?\\r").first().waitFor();
  await frames.getByText("25 31 50 4f 57 52 20 3f 0d").first().waitFor();
  await frames.getByText(/^%1POWR=[0-3]/).first().waitFor();
  assert.ok(!(await frames.textContent()).includes("secret"));
  await picture("wire");
  const rows = () => frames.getByRole("button").count();
  await page.getByRole("button", { name: "Pause" }).click();
  const more = async () => Number((await page.getByText(/paused, \d+ more/).textContent()).match(/(\d+) more/)[1]);
  const missed = await more();
  const stood = await rows();
  await until("more come", async () => (await more()) > missed);
  assert.equal(await rows(), stood, "paused, nothing is added");
  await page.getByRole("button", { name: "Clear" }).click();
  await page.getByRole("button", { name: "Resume" }).click();
  await until("new frames after clear", async () => (await rows()) > 0);
});

test("settings are saved, and what is wrong is refused", async () => {
  await page.getByRole("tab", { name: "Settings" }).click();
  const form = page.getByRole("form", { name: "Settings" });
  await form.getByLabel("Labels").last().fill("building=north");
  await form.getByLabel("Labels").last().press("Enter");
  await form.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved").waitFor();
  await page.getByText("building=north").first().waitFor();
  await page.getByRole("tab", { name: "Live" }).click();
  await page.getByText("Connected", { exact: true }).waitFor();
});

test("the table is live, and filters", async () => {
  await page.getByRole("navigation", { name: "Rooms" }).getByRole("link", { name: "Twins" }).click();
  const table = page.getByRole("table", { name: "Twins" });
  const row = table.getByRole("row").filter({ hasText: "lecture-hall-1" });
  await row.getByText("Connected").waitFor();
  // The simulated lamp ages an hour per second: the row changes without a reload.
  const hours = async () => (await row.getByRole("cell").nth(2).textContent()).match(/lamp_hours(\d+)/)?.[1];
  const before = await until("the row shows the lamp's hours", hours);
  await until("the row changes by itself", async () => Number(await hours()) > Number(before));
  await page.keyboard.press("/");
  await page.keyboard.type("no-such-twin");
  await page.getByText("No twin matches.").waitFor();
  await page.keyboard.press("Escape");
  await row.waitFor();
  await page.goto(`${url}/twins?label=building%3Dnorth&driver=pjlink&status=connected`);
  await row.waitFor();
  await page.goto(`${url}/twins?label=building%3Dsouth`);
  await page.getByText("No twin matches.").waitFor();
});

test("the cluster's room shows this node, and how to add a second", async () => {
  await page.goto(`${url}/nodes`);
  await page.waitForURL(/\/cluster$/);
  const box = page.getByRole("region", { name: /^Node / });
  await box.getByText("leader").waitFor();
  await box.getByText(/s left/).waitFor();
  await page.getByRole("status", { name: "What the cluster survives" }).getByText(/^Survives no failure/).waitFor();
  await until("it cannot be drained, as nobody could take the slots", () => box.getByRole("button", { name: "Drain" }).isDisabled());
  await page.getByRole("img", { name: /^16.384 slots: / }).waitFor();
  await page.getByRole("region", { name: "A second node" }).getByText("pollux cluster token").waitFor();
});

test("dark mode is a choice that stays", async () => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.getByRole("button", { name: /^Colours/ }).click();
  await page.getByRole("menuitem", { name: "Dark" }).click();
  const scheme = () => page.evaluate(() => document.documentElement.getAttribute("data-mantine-color-scheme"));
  await until("dark", async () => (await scheme()) === "dark");
  assert.notEqual(await ground(), light);
  await page.reload();
  await page.getByRole("heading", { name: "Cluster" }).waitFor();
  assert.equal(await scheme(), "dark");
  await page.getByRole("button", { name: /^Colours/ }).click();
  await page.getByRole("menuitem", { name: "Light" }).click();
  await until("light again", async () => (await scheme()) === "light");
});

/** Runs the command line as another client of the node. */
async function cli(...args) {
  const key = (await readFile(join(dir, "data", "admin.key"), "utf8")).trim();
  await promisify(execFile)(binary, args, { env: { ...process.env, POLLUX_URL: url, POLLUX_API_KEY: key } });
}

test("what another client creates appears without a reload", async () => {
  await page.goto(`${url}/twins`);
  const row = (name) => page.getByRole("row").filter({ hasText: name });
  await row("lecture-hall-1").getByText("Connected").waitFor();
  const broker = node.line.match(/mqtt=(\S+)/)[1];
  others.push(await start(["sim", "tasmota", "--broker", broker, "--topic", "plug", "--count", "8", "--period", "1s"]));
  await cli("zone", "put", "level-2", "--kind", "level", "--title", "Level 2");
  for (let i = 1; i <= 8; i++) {
    await cli("twin", "create", `plug-${i}`, "--driver", "tasmota", "--setting", `topic=plug-${i}`, "--label", `desk=${i}`, "--zone", "level-2");
  }
  for (let i = 2; i <= 4; i++) {
    const device = await freePort();
    others.push(await start(["sim", "pjlink", "--listen", `127.0.0.1:${device}`, "--warm-up", "1s", "--lamp-hour", "2s"]));
    await cli("twin", "create", `lecture-hall-${i}`, "--driver", "pjlink", "--uri", `tcp://127.0.0.1:${device}`, "--label", "building=north");
  }
  await cli("twin", "create", "foyer-display", "--driver", "pjlink", "--uri", `tcp://127.0.0.1:${await freePort()}`, "--stopped");
  await row("plug-8").getByText("Connected").waitFor();
  await row("lecture-hall-4").getByText("Connected").waitFor();
  await row("foyer-display").getByText("Stopped").waitFor();
  await cli("twin", "set", "lecture-hall-2", "power", "true");
  await until("power set elsewhere shows here", async () => /poweron/.test(await row("lecture-hall-2").getByRole("cell").nth(2).textContent()));
  await until("the counts follow", async () => /^13/.test(await page.getByRole("group", { name: "Twins by status" }).getByRole("button").first().textContent()));
  await picture("twins");
  await page.goto(`${url}/twins/default/lecture-hall-1`);
  await page.getByRole("region", { name: "History of lamp_hours" }).getByText(/\d{2} samples/).waitFor();
  await picture("twin");
  await page.goto(`${url}/drivers/pjlink`);
  await page.getByRole("table", { name: "Versions" }).waitFor();
  await page.getByRole("link", { name: /pjlink/ }).getByText(/\d twins/).waitFor();
  await picture("drivers");
});

test("a twin that may not be meant is created with a warning", async () => {
  await page.goto(`${url}/twins`);
  await page.getByRole("button", { name: "Create twin" }).first().click();
  const form = page.getByRole("form", { name: "Create twin" });
  await form.getByLabel("Id").fill("plug-1-again");
  await form.getByRole("combobox", { name: "Model or driver" }).click();
  await page.getByRole("option", { name: "tasmota (newest)" }).click();
  await form.getByRole("textbox", { name: "Topic", exact: true }).fill("plug-1");
  await form.getByRole("button", { name: "Create", exact: true }).click();
  const note = page.getByRole("alert").filter({ hasText: "default/plug-1-again created, with" });
  await note.getByText(/plug-1/).last().waitFor();
  await page.getByRole("heading", { name: "default/plug-1-again" }).waitFor();
  await cli("twin", "rm", "plug-1-again");
});

test("the metrics' own pages open with the key of this tab", async () => {
  await page.goto(`${url}/cluster`);
  const [metrics] = await Promise.all([browser.waitForEvent("page"), page.getByRole("button", { name: "Metrics" }).click()]);
  await metrics.waitForURL(/\/victoria\/vmui\//);
  assert.equal(await metrics.evaluate(async () => (await fetch("/victoria/api/v1/query?query=pollux_property")).status), 200);
  await metrics.close();
  await browser.clearCookies();
});

test("a login link signs a tab in without a key, once", async () => {
  const key = (await readFile(join(dir, "data", "admin.key"), "utf8")).trim();
  const answer = await fetch(`${url}/pollux.v1.KeyService/CreateLoginLink`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${key}` },
    body: "{}",
  });
  const { path } = await answer.json();
  const tab = await browser.newPage();
  await tab.goto(url + path);
  await tab.getByRole("link", { name: "Twins", exact: true }).filter({ hasText: "connected" }).click();
  await tab.getByRole("row").filter({ hasText: "lecture-hall-1" }).getByText("Connected").waitFor();
  assert.equal((await tab.goto(url + path)).status(), 401, "the link is spent");
  await tab.goto(url);
  await tab.getByRole("button", { name: "Sign out" }).click();
  await tab.getByRole("form", { name: "Sign in" }).waitFor();
  await tab.reload();
  await tab.getByRole("form", { name: "Sign in" }).waitFor();
  await tab.close();
});

test("a node that goes away is told, and found again", async () => {
  await page.goto(`${url}/twins`);
  await page.getByRole("status").filter({ hasText: "Live" }).waitFor();
  const { port } = new URL(url);
  const data = join(dir, "data");
  const mqtt = node.line.match(/mqtt=\S*?:(\d+)/)?.[1] ?? String(await freePort());
  await node.stop();
  await page.getByRole("alert").filter({ hasText: "Offline" }).waitFor();
  node = await start(["serve", "--data", data, "--http", `127.0.0.1:${port}`, "--mqtt", `127.0.0.1:${mqtt}`, ...inside]);
  await page.getByRole("status").filter({ hasText: "Live" }).waitFor();
  await page.getByRole("row").filter({ hasText: "lecture-hall-1" }).getByText("Connected").waitFor();
});

test("a twin is deleted after a question", async () => {
  await page.goto(`${url}/twins/default/lecture-hall-2`);
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete twin" }).click();
  await page.getByRole("heading", { name: "Twins" }).waitFor();
  await until("it is gone", async () => (await page.getByRole("row").filter({ hasText: "lecture-hall-2" }).count()) === 0);
});

test("the browser had nothing to complain of", () => {
  assert.deepEqual(complaints.filter((c) => !/ERR_CONNECTION|ERR_INCOMPLETE|Failed to fetch|network error/i.test(c)), []);
});
