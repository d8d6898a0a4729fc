// A driver in JavaScript, from nothing to a live twin, in the browser: written, seen to fail at its line, mended, deployed, changed.
// The device is a lamp over TCP that this test plays; what it was told is what is checked.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { promisify } from "node:util";

import { open, picture as takePicture, story } from "./browser.mjs";
import { binary, freePort, root, start, until } from "./node.mjs";

let dir, node, browser, page, complaints, url, key, lamp;
const told = [];

const test = story(() => ({ page, complaints, output: node?.output() }));

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "pollux-e2e-"));
  const [http, mqtt] = [await freePort(), await freePort()];
  node = await start(["serve", "--data", join(dir, "data"), "--http", `127.0.0.1:${http}`, "--mqtt", `127.0.0.1:${mqtt}`, "--gossip", "127.0.0.1:0", "--peer", "127.0.0.1:0"]);
  url = `http://127.0.0.1:${http}`;
  key = (await readFile(join(dir, "data", "admin.key"), "utf8")).trim();
  ({ browser, page, complaints } = await open(dir));
  let power = "OFF";
  lamp = createServer((socket) => {
    let rest = "";
    socket.on("error", () => {});
    socket.on("data", (data) => {
      const lines = (rest + data).split("\r\n");
      rest = lines.pop();
      for (const line of lines) {
        told.push(line);
        const [, to] = /^POWER (ON|OFF)$/.exec(line) ?? [];
        if (to) power = to;
        socket.write(`POWER=${power}\r\n`);
      }
    });
  });
  await new Promise((done) => lamp.listen(0, "127.0.0.1", done));
});

after(async () => {
  await browser?.close();
  await node?.stop();
  lamp?.close();
  if (dir) await rm(dir, { recursive: true, force: true });
});

async function cli(...args) {
  const { stdout } = await promisify(execFile)(binary, args, { env: { ...process.env, POLLUX_URL: url, POLLUX_API_KEY: key } });
  return stdout;
}

const source = () => page.getByRole("textbox", { name: "Source" });
const results = () => page.getByRole("region", { name: "Results" });
const run = () => page.getByRole("button", { name: "Run tests" }).click();
let good;

/** The editor draws only the lines in sight, so the whole is written as a person pastes it. */
async function write(text) {
  await source().click();
  await page.keyboard.press("Control+a");
  await page.keyboard.insertText(text);
}

test("a new driver begins with an example whose tests pass", async () => {
  await page.goto(url);
  const form = page.getByRole("form", { name: "Sign in" });
  await form.getByLabel("API key").first().fill(key);
  await form.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("navigation", { name: "Rooms" }).getByRole("link", { name: "Drivers" }).click();
  await page.getByRole("link", { name: "Write one in JavaScript" }).click();
  await page.getByLabel("Name").fill("lamp");
  await page.getByRole("button", { name: "Begin" }).click();
  await source().waitFor();
  assert.match(await source().innerText(), /name: 'lamp'/);
  good = (await readFile(join(root, "drivers/project/templates/js/driver.js"), "utf8")).replaceAll("{{.Name}}", "lamp").replaceAll("{{.Title}}", "Lamp");
  await run();
  await results().getByText(/^\d+ passed, 0 failed/).waitFor();
});

test("a wrong driver fails at the line of the step, and a broken one at its own", async () => {
  await write(good.replace("POWER ${on", "PWR ${on"));
  await page.keyboard.press("Control+s");
  await results().getByText(/[1-9] failed/).waitFor();
  const failed = results().getByRole("listitem").filter({ hasText: "switches it" });
  await failed.getByText("PWR ON").first().waitFor();
  await takePicture(page, "driver-editor");
  await failed.getByRole("button").first().click();
  await until("the cursor is at the step", async () => /expect: "POWER ON/.test(await page.getByRole("region", { name: "Tests" }).locator(".cm-activeLine").innerText()));

  await write(`const = 1;\n${good}`);
  await run();
  const alert = page.getByRole("alert").filter({ hasText: "lamp.js:" });
  await alert.waitFor();
  await alert.getByRole("button", { name: /Go to line/ }).click();
  await until("the cursor is at the mistake", async () => /const = 1/.test(await page.getByRole("region", { name: "Source" }).locator(".cm-activeLine").innerText()));
});

test("what was written outlives the page", async () => {
  await page.evaluate(() => window.removeEventListener("beforeunload", () => {}));
  page.once("dialog", (d) => void d.accept());
  await page.reload();
  await page.getByLabel("Name").fill("lamp");
  await page.getByRole("button", { name: "Begin" }).click();
  await until("the draft is back", async () => /const = 1/.test(await source().innerText()));
});

test("it is deployed, and a twin lives by it", async () => {
  await write(good);
  await run();
  await results().getByText(/^\d+ passed, 0 failed/).waitFor();
  await page.getByRole("button", { name: "Deploy" }).click();
  await page.getByRole("region", { name: "Driver lamp" }).waitFor();
  await cli("twin", "create", "desk", "--driver", "lamp", "--uri", `tcp://127.0.0.1:${lamp.address().port}`);
  await until("the lamp is asked", async () => told.includes("POWER?"));
  await cli("twin", "set", "desk", "power", "true");
  assert.ok(told.includes("POWER ON"), `the lamp was told ${told}`);
});

test("a change is another version, and the twin goes over to it", async () => {
  await page.getByRole("link", { name: "Edit" }).click();
  await until("the source is there", async () => (await source().innerText()).includes("name: 'lamp'"));
  await write(good.replace("connected(twin) {", "connected(twin) {\n    twin.send('HELLO\\r\\n');"));
  await page.getByRole("button", { name: "Deploy" }).click();
  await page.getByRole("button", { name: "Make it version 0.1.1" }).click();
  await page.getByRole("button", { name: "Deploy" }).click();
  await page.getByRole("region", { name: "Driver lamp" }).getByRole("button", { name: "0.1.1", exact: true }).waitFor();
  await until("the twin runs it", async () => /0\.1\.1/.test(await cli("twin", "get", "desk")));
});

test("a version is staged, rolled out step by step, and taken back", async () => {
  await page.getByRole("link", { name: "Edit" }).click();
  await until("the source is there", async () => (await source().innerText()).includes("name: 'lamp'"));
  await write(good.replace("0.1.0", "0.2.0"));
  await page.getByRole("button", { name: "Stage" }).click();
  const driver = page.getByRole("region", { name: "Driver lamp" });
  await driver.getByRole("button", { name: "0.2.0", exact: true }).waitFor();
  await driver.getByRole("tab", { name: "Rollout" }).click();
  const form = driver.getByRole("form", { name: "Begin a rollout" });
  await form.getByLabel("Minutes per step").fill("0.1");
  await form.getByRole("button", { name: "Begin" }).click();
  const told = driver.getByRole("region", { name: "Rollout" });
  await told.getByText("0.1.1 → 0.2.0").waitFor();
  await told.getByText("done", { exact: true }).waitFor();
  assert.match(await cli("twin", "get", "desk"), /version 0\.2\.0/);
  await driver.getByRole("button", { name: "Roll back" }).click();
  await until("the twin has the version before", async () => /version 0\.1\.1/.test(await cli("twin", "get", "desk")));
  assert.deepEqual(complaints, [], "the browser's console is silent");
});
