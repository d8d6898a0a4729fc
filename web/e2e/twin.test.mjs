// What a twin's page tells when not all is well: a device that sleeps, a driver that goes on failing, settings that others give.
// The device is a lamp over TCP that this test plays; what it was told, and what the command line says, is what is checked.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { promisify } from "node:util";

import { open, picture as takePicture, story } from "./browser.mjs";
import { binary, freePort, start, until } from "./node.mjs";

let dir, node, browser, page, complaints, url, key, lamp, bell;
const told = [];
const sockets = new Set();

const test = story(() => ({ page, complaints, output: node?.output() }));

const drivers = {
  lamp: `export default driver({
    name: 'lamp', version: '1.0.0', title: 'Lamp', capabilities: ['subscribe'],
    transport: { scheme: 'tcp', tokenizer: { delimiter: '\\r\\n' } },
    settings: {
      poll_s: { type: 'integer', title: 'Poll', minimum: 1, default: 60 },
      level: { type: 'integer', title: 'Level', minimum: 0, maximum: 100 },
      token: { type: 'string', title: 'Token', required: true, writeOnly: true },
    },
    properties: { power: { type: 'boolean', title: 'Power', set(twin, on) { twin.send(on ? 'ON\\r\\n' : 'OFF\\r\\n'); } }, outdoor: 'number' },
    actions: { blink: { queue: { pause_ms: 600000 }, run(twin) { twin.send('BLINK\\r\\n'); } } },
    load(twin) { twin.other('weather').subscribe('outdoor'); },
    changed(twin, change) { twin.report('outdoor', change.value); },
    received(twin, text) {
      if (text === 'SLEEP') return twin.sleep();
      if (text === 'WAKE') return twin.wake();
      twin.report('power', text === 'ON');
    },
  });`,
  weather: `export default driver({
    name: 'weather', version: '1.0.0',
    properties: { outdoor: { type: 'number', set(twin, value) { twin.report('outdoor', value); } } },
  });`,
  finder: `export default driver({
    name: 'finder', version: '1.0.0', transport: { scheme: 'udp' },
    scan: {
      over: 'udp', port: 9, options: { type: 'object', properties: { word: { type: 'string', title: 'Word', maxLength: 5 } }, additionalProperties: false },
      run(twin, options) { twin.send('127.0.0.1\\u0000' + (options.word || 'NOBODY')); },
    },
    received(twin, frame) {
      const [from, name] = frame.split('\\u0000');
      twin.discover({ network: 'bells', key: 'name', value: name, name: 'Bell ' + name, driver: 'finder', uri: 'udp://' + from });
    },
  });`,
  broken: `export default driver({
    name: 'broken', version: '1.0.0', settings: { fine: 'boolean' },
    load(twin) { while (!twin.settings.fine); },
  });`,
};

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "pollux-e2e-"));
  const [http, mqtt] = [await freePort(), await freePort()];
  node = await start(["serve", "--data", join(dir, "data"), "--http", `127.0.0.1:${http}`, "--mqtt", `127.0.0.1:${mqtt}`, "--gossip", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--twin-quarantine-after", "5"]);
  url = `http://127.0.0.1:${http}`;
  key = (await readFile(join(dir, "data", "admin.key"), "utf8")).trim();
  lamp = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (data) => {
      for (const line of data.toString().split("\r\n").filter(Boolean)) {
        told.push(line);
        if (line === "ON" || line === "OFF") socket.write(`${line}\r\n`);
      }
    });
  });
  await new Promise((done) => lamp.listen(0, "127.0.0.1", done));
  bell = createSocket("udp4", (data, from) => data.toString() === "WHO" && bell.send("hall", from.port, from.address));
  await new Promise((done) => bell.bind(0, "127.0.0.1", done));
  for (const [name, source] of Object.entries(drivers)) {
    await writeFile(join(dir, `${name}.js`), source.replace("BELL", bell.address().port));
    await cli("driver", "push", join(dir, `${name}.js`));
  }
  // It fails again and again, longer apart each time, while the other steps are taken.
  await cli("twin", "create", "unlucky", "--driver", "broken");
  await cli("twin", "create", "weather", "--driver", "weather");
  await cli("zone", "put", "house", "--kind", "building", "--title", "House");
  await cli("zone", "settings", "set", "house", "level=40", "token=hidden-words");
  await cli("twin", "create", "desk", "--driver", "lamp", "--uri", `tcp://127.0.0.1:${lamp.address().port}`, "--zone", "house");
  ({ browser, page, complaints } = await open(dir));
});

after(async () => {
  await browser?.close();
  await node?.stop();
  for (const socket of sockets) socket.destroy();
  lamp?.close();
  bell?.close();
  if (dir) await rm(dir, { recursive: true, force: true });
});

async function cli(...args) {
  const { stdout } = await promisify(execFile)(binary, args, { env: { ...process.env, POLLUX_URL: url, POLLUX_API_KEY: key } });
  return stdout;
}

const say = (line) => sockets.forEach((s) => s.write(`${line}\r\n`));
const row = (name) => page.getByRole("row", { name, exact: true });

test("the connection tells what it moved, and what the driver follows", async () => {
  await page.goto(url);
  const form = page.getByRole("form", { name: "Sign in" });
  await form.getByLabel("API key").first().fill(key);
  await form.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.goto(`${url}/twins/default/desk`);
  await page.getByText("Connected", { exact: true }).waitFor();
  await row("power").getByRole("switch", { name: "Set power" }).click({ force: true });
  await row("power").getByText("confirmed").waitFor();
  assert.deepEqual(told, ["ON"]);
  const connection = page.getByRole("region", { name: "Connection" });
  // ON and its end, each way.
  await connection.getByText("4 B in 1 frame").first().waitFor();
  const follows = connection.getByRole("list", { name: "Follows" });
  await follows.getByRole("link", { name: "weather" }).waitFor();
  assert.match(await follows.textContent(), /outdoor of weather/);
  await cli("twin", "set", "weather", "outdoor", "7.5");
  await row("outdoor").getByText("7.5").waitFor();
});

test("what is asked of a device that sleeps says what it waits for, and is told when it wakes", async () => {
  say("SLEEP");
  await page.getByText("Asleep", { exact: true }).waitFor();
  await row("power").getByRole("switch", { name: "Set power" }).click({ force: true });
  await row("power").getByText(/asked, the device sleeps/).waitFor();
  assert.deepEqual(told, ["ON"], "a device that sleeps is told nothing");
  await takePicture(page, "twin-asleep");
  say("WAKE");
  await row("power").getByText("confirmed").waitFor();
  assert.deepEqual(told, ["ON", "OFF"]);
});

test("what waits in the queue is cleared", async () => {
  const blink = page.getByRole("form", { name: "blink" });
  await blink.getByRole("button", { name: "Run blink" }).click();
  await blink.getByText("done").waitFor();
  await cli("twin", "call", "desk", "blink", "--no-wait", "--valid-for", "1h");
  const actions = page.getByRole("region", { name: "Actions" });
  await actions.getByText("1 in the queue").waitFor();
  await actions.getByRole("button", { name: "Clear the queue" }).click();
  await actions.getByText("queue empty").waitFor();
  await actions.getByRole("list").getByText("rejected").waitFor();
  assert.deepEqual(told, ["ON", "OFF", "BLINK"], "the second was never sent");
  // Who opens the page later sees what happened before.
  await page.reload();
  await page.getByRole("log", { name: "Lines" }).getByText("command blink").first().waitFor();
});

test("settings say where they come from, and secrets stay hidden", async () => {
  await page.getByRole("tab", { name: "Settings" }).click();
  const origins = page.getByRole("table", { name: "Settings and their origin" });
  await origins.getByRole("row", { name: "poll_s" }).getByText("default").waitFor();
  assert.match(await origins.getByRole("row", { name: "level" }).textContent(), /40zone default\/house/);
  assert.match(await origins.getByRole("row", { name: "token" }).textContent(), /\*\*\*zone default\/house/);
  const form = page.getByRole("form", { name: "Settings", exact: true });
  await form.getByRole("textbox", { name: "Level" }).fill("55");
  await form.getByRole("textbox", { name: "Selector" }).fill("site=nowhere,");
  await form.getByRole("button", { name: "Save" }).click();
  await form.getByRole("alert").getByText(/selector/).waitFor();
  await form.getByRole("textbox", { name: "Selector" }).fill("");
  await form.getByRole("button", { name: "Save" }).click();
  await origins.getByRole("row", { name: "level" }).getByText("twin default/desk").waitFor();
  assert.match(await cli("twin", "settings", "get", "desk"), /level\s+55/);
  assert.doesNotMatch(await page.content(), /hidden-words/);
});

test("a driver's settings are changed for all its twins, compared, and had again", async () => {
  const panel = page.getByRole("region", { name: "Where settings come from" });
  await panel.getByRole("combobox", { name: "Settings of" }).click();
  await page.getByRole("option", { name: "driver lamp" }).click();
  const form = panel.getByRole("form", { name: "Settings of driver lamp" });
  for (const poll of ["20", "30"]) {
    await form.getByRole("textbox", { name: "Poll" }).fill(poll);
    await form.getByRole("button", { name: "Save" }).click();
    await page.getByRole("table", { name: "Settings and their origin" }).getByRole("row", { name: "poll_s" }).getByText(poll).waitFor();
  }
  await until("the panel has it", async () => /30driver lamp/.test(await panel.getByRole("row", { name: "poll_s" }).first().textContent()));
  const newest = panel.getByRole("row", { name: "Version 2" });
  await newest.getByRole("button", { name: "What changed" }).click();
  await panel.getByRole("list", { name: "Changes from version 1 to 2" }).getByText("20 → 30").waitFor();
  await takePicture(page, "settings", 6000);
  await panel.getByRole("row", { name: "Version 1" }).getByRole("button", { name: "Restore" }).click();
  await panel.getByRole("row", { name: "Version 3" }).getByText("holds").waitFor();
  assert.match(await cli("twin", "settings", "get", "desk"), /poll_s\s+20\s+driver lamp/);
});

test("a recording is a file that the command line replays", async () => {
  await page.getByRole("tab", { name: "Wire" }).click();
  await page.getByRole("button", { name: "Record", exact: true }).click();
  const recording = page.getByRole("status", { name: "Recording" });
  await recording.getByText(/recording$/).waitFor();
  say("ON");
  await recording.getByText(/^[1-9]\d* calls?,/).waitFor();
  await page.getByRole("button", { name: "Stop recording" }).click();
  await recording.getByText("stopped").waitFor();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download" }).click()]);
  assert.equal(download.suggestedFilename(), "default_desk.rec");
  const file = join(dir, "desk.rec");
  await download.saveAs(file);
  assert.doesNotMatch(await readFile(file, "utf8"), /hidden-words/);
  await cli("driver", "replay", file, "--driver", join(dir, "lamp.js"));
  await writeFile(join(dir, "other.js"), drivers.lamp.replace("text === 'ON'", "text !== 'ON'"));
  await assert.rejects(cli("driver", "replay", file, "--driver", join(dir, "other.js")), (e) => e.code === 1 && /power/.test(e.stdout));
});

test("a driver finds devices in a network, and the inbox has them", async () => {
  await page.goto(`${url}/drivers/finder`);
  await page.getByRole("tab", { name: "Find devices" }).click();
  const form = page.getByRole("form", { name: "Find devices" });
  await form.getByLabel("Network").fill("127.0.0.1/32");
  await form.getByLabel("Port").fill(String(bell.address().port));
  await form.getByLabel("Word").fill("WHO IS THERE");
  await form.getByRole("button", { name: "Find devices" }).click();
  await form.getByText("takes 5 characters at most").waitFor();
  await form.getByLabel("Word").fill("WHO");
  await form.getByRole("button", { name: "Find devices" }).click();
  const found = page.getByRole("table", { name: "Found" }).getByRole("row").filter({ hasText: "Bell hall" });
  await found.waitFor();
  assert.match(await found.textContent(), new RegExp(`udp://127.0.0.1:${bell.address().port}`));
  await page.getByRole("table", { name: "Inbox" }).getByRole("row").filter({ hasText: "bells/name/hall" }).waitFor();
  assert.match(await cli("inbox", "list"), /hall/);
});

test("a driver that goes on failing is in quarantine until somebody releases it", async () => {
  await page.goto(`${url}/twins/default/unlucky`);
  const alert = page.getByRole("alert").filter({ hasText: /Tried again|quarantine/i });
  await alert.waitFor();
  // Five failures, at most twice as far apart each time.
  await page.getByText(/In quarantine since/).waitFor();
  await page.getByText("Quarantine", { exact: true }).waitFor();
  await takePicture(page, "quarantine");
  assert.match(await cli("twin", "get", "unlucky"), /uarantine/);
  await page.getByRole("button", { name: "Release" }).click();
  await page.getByText(/In quarantine since/).waitFor({ state: "detached" });
  await cli("twin", "settings", "set", "unlucky", "fine=true");
  await alert.waitFor({ state: "detached" });
  assert.deepEqual(complaints, [], "the browser's console is silent");
});
