// The Cluster room in headless Chromium against three real nodes with simulated devices. What a person does is done by
// roles and labels; whether it worked is asked of the cluster by the command line, not read from the page.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { promisify } from "node:util";

import { open, picture, story } from "./browser.mjs";
import { binary, start, until } from "./node.mjs";

/** Loopback addresses of this run's own; Linux has all of 127.0.0.0/8. */
const net = `127.${100 + (process.pid % 100)}.${Math.floor(process.pid / 100) % 200}`;
const names = ["a", "b", "c"];
const url = (i) => `http://${net}.${i + 1}:8080`;
const slots = 16384;
/** Twins, a multiple of three; more for the pictures, so that a drain has something to do. */
const twins = process.env.PICTURES ? 600 : 24;
let dir, browser, page, complaints, key;
let nodes = [];
const sims = [];

const test = story(() => ({ page, complaints, output: nodes.map((n) => n?.output()).join("\n") }));

/** The node's command line; all keep what they cache in the test's directory. */
function serve(i, ...args) {
  const at = `${net}.${i + 1}`;
  return start(
    [
      "serve", "--data", join(dir, names[i]), "--name", names[i], "--availability-zone", `house-${i + 1}`, "--site", "campus", "--label", `rack=r${i + 1}`,
      "--http", `${at}:8080`, "--mqtt", `${at}:1883`, "--gossip", `${at}:7946`, "--peer", `${at}:7947`, ...args,
    ],
    { XDG_CACHE_HOME: join(dir, "cache") },
  );
}

async function listens(host, port) {
  const socket = connect(port, host);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** Runs the command line against a node of the cluster; its answer as JSON where it is asked for with `-o json`. */
async function cli(...args) {
  const env = { ...process.env, POLLUX_URL: url(0), POLLUX_API_KEY: key };
  const { stdout } = await promisify(execFile)(binary, args, { env, maxBuffer: 1 << 24 });
  return args.includes("json") ? JSON.parse(stdout) : stdout;
}

const list = async () => (await cli("cluster", "nodes", "-o", "json")).nodes ?? [];
const nodeOf = async (name) => (await list()).find((n) => n.name === name);
const where = (twin) => cli("cluster", "where", twin, "-o", "json");
/** The node in what the API says of a slot or a twin. */
const nameIn = (place) => place.node_name ?? place.nodeName;

/** Waits until every slot is where it shall be, as the API says. */
const settled = (what, check) =>
  until(what, async () => {
    const all = await list();
    return all.reduce((n, x) => n + (x.slots ?? 0), 0) === slots && all.every((n) => (n.slots ?? 0) === (n.slots_target ?? n.slotsTarget ?? 0)) && check(all) ? all : undefined;
  });

/** Creates a twin of the device of its name, by any of the nodes. */
async function createTwin(i, name) {
  const answer = await fetch(`${url(i)}/pollux.v1.TwinService/CreateTwin`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${key}` },
    body: JSON.stringify({ twin: { id: `default/${name}`, driver: "tasmota", settings: { topic: name } } }),
  });
  assert.equal(answer.status, 200, await answer.text());
}

const box = (name) => page.getByRole("region", { name: `Node ${name}`, exact: true });
const dialog = () => page.getByRole("dialog");

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "pollux-e2e-"));
  const founder = serve(0, "--bootstrap-expect", "3");
  founder.catch(() => undefined); // told below, with the others
  await until("the founder listens to its peers", () => listens(`${net}.1`, 7947));
  nodes = await Promise.all([founder, ...[1, 2].map((i) => serve(i, "--join", `${net}.1:7947`))]);
  key = (await readFile(join(dir, "a", "admin.key"), "utf8")).trim();
  await settled("each node has its share", (all) => all.length === 3 && all.every((n) => n.slots > slots / 4));
  await cli("driver", "add", "tasmota");
  for (const [i] of names.entries()) {
    const devices = ["--broker", `${net}.${i + 1}:1883`, "--topic", `plug${i}`, "--count", `${twins / 3}`, "--period", "2s"];
    sims.push(await start(["sim", "tasmota", ...devices]));
    for (let n = 1; n <= twins / 3; n++) await createTwin(i, `plug${i}-${n}`);
  }
  ({ browser, page, complaints } = await open(dir));
});

after(async () => {
  await browser?.close();
  await Promise.all(sims.map((s) => s.stop()));
  await Promise.all(nodes.map((n) => n?.stop()));
  if (dir) await rm(dir, { recursive: true, force: true });
});

test("the room shows three nodes in their zones, and what they survive", async () => {
  await page.goto(`${url(0)}/cluster`);
  const form = page.getByRole("form", { name: "Sign in" });
  await form.getByLabel("API key").first().fill(key);
  await form.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Cluster" }).waitFor();
  await page.getByRole("status", { name: "What the cluster survives" }).getByText(/^Survives 1 failure/).waitFor();
  const { name: leader } = await until("the API names a leader", async () => (await list()).find((n) => n.role === "leader"));
  for (const [i, name] of names.entries()) {
    const zone = page.getByRole("region", { name: `Availability zone house-${i + 1}` });
    const node = zone.getByRole("region", { name: `Node ${name}` });
    await node.getByText("alive", { exact: true }).waitFor();
    await node.getByText(name === leader ? "leader" : "voter", { exact: true }).waitFor();
    await node.getByText(/s left$/).waitFor();
    await node.getByText(`rack=r${i + 1}`).waitFor();
  }
  await until("the map says how many slots b has, as the API does", async () => {
    const { slots: owned } = await nodeOf("b");
    const label = await page.getByRole("img", { name: /^16.384 slots: / }).getAttribute("aria-label");
    return new RegExp(`b has ${owned}\\b`).test(label.replace(/\u202f/g, ""));
  });
});

test("a slot under the pointer tells its owner", async () => {
  const map = page.getByRole("img", { name: /^16.384 slots: / });
  const { width, height } = await map.boundingBox();
  const slot = 77 * 128 + 33;
  await map.hover({ position: { x: (33.5 / 128) * width, y: (77.5 / 128) * height } });
  const card = page.getByRole("region", { name: "Slots" }).getByRole("status");
  const truth = await until("the card says what the API does", async () => {
    const told = await cli("cluster", "slots", "--all", "-o", "json");
    const now = told.slots.find((s) => (s.slot ?? 0) === slot);
    return (await card.textContent()) === `Slot${slot}Owner${nameIn(now)}Sinceowner no. ${now.since}Targetstays` && now;
  });
  await page.mouse.move(0, 0);
  const pixel = await map.evaluate((canvas, [x, y]) => [...canvas.getContext("2d").getImageData(x, y, 1, 1).data], [33 * 4, 77 * 4]);
  const swatch = await box(nameIn(truth)).locator(".swatch").evaluate((e) => getComputedStyle(e).backgroundColor);
  assert.equal(`rgb(${pixel.slice(0, 3).join(", ")})`, swatch, "its square has the colour of its owner's box");
});

/** A twin that lives on the node, if there is one. */
async function oneOn(name) {
  for (let n = 1; n <= twins / 3; n++) {
    for (let i = 0; i < 3; i++) {
      if (nameIn(await where(`plug${i}-${n}`)) === name) return `plug${i}-${n}`;
    }
  }
}

let twin;

test("a twin is found, on its node and in the map", async () => {
  const search = page.getByRole("search", { name: "Find a twin" });
  // A node that was away for longer than its lease loses its twins for a while: then the next one is looked for.
  await until("the page finds a twin on c", async () => {
    twin = await oneOn("c");
    await search.getByLabel("Twin").fill(twin);
    await search.getByRole("button", { name: "Find" }).click();
    await search.getByRole("link", { name: `default/${twin}`, exact: true }).waitFor();
    await search.getByRole("status").getByText("on c").waitFor({ timeout: 10_000 });
    return true;
  });
  const { slot } = await where(twin);
  await page.getByRole("img", { name: `Slot ${slot}`, exact: true }).waitFor();
  await search.getByRole("link", { name: `default/${twin}`, exact: true }).click();
  await page.getByRole("heading", { name: `default/${twin}` }).waitFor();
  await page.getByText("Connected", { exact: true }).waitFor();
  await page.getByText(/runs \d+\.\d+\.\d+/).waitFor();
  const home = await until("the page says where it lives, as the API does", async () => {
    const link = page.getByRole("link", { name: nameIn(await where(twin)), exact: true });
    return (await link.count()) === 1 && link;
  });
  await home.click();
  await page.getByRole("img", { name: `Slot ${slot}`, exact: true }).waitFor();
});

test("a token is made, and the line to paste is shown", async () => {
  await page.getByRole("button", { name: "Add a node" }).click();
  await dialog().getByRole("button", { name: "Create a join token" }).click();
  const line = await dialog().getByLabel("Line to paste").textContent();
  assert.match(line, /^pollux serve .*--join/);
  const tokens = (await cli("cluster", "token", "list", "-o", "json")).tokens ?? [];
  await dialog().getByRole("button", { name: `Revoke ${tokens[0].id}` }).click();
  await until("it is revoked", async () => !((await cli("cluster", "token", "list", "-o", "json")).tokens ?? []).some((t) => t.id === tokens[0].id));
  await page.keyboard.press("Escape");
  await dialog().waitFor({ state: "detached" });
});

/** Presses a node's button, and the button of the question after it. */
async function operate(name, button, verb, says) {
  await box(name).getByRole("button", { name: button, exact: true }).click();
  await dialog().getByText(says).waitFor();
  await dialog().getByRole("button", { name: verb, exact: true }).click();
  await dialog().waitFor({ state: "detached" });
}

/** Pictures are of slots that move: who presses the shutter late drains once more. */
async function pictureOfDrain(scheme) {
  const bar = box("c").getByRole("progressbar", { name: "Drain" });
  await page.emulateMedia({ colorScheme: scheme });
  for (let tries = 0; ; tries++) {
    await operate("c", "Drain", "Drain", /will go to a and b/);
    await Promise.race([bar.waitFor(), box("c").getByText("Drained.").waitFor()]);
    const before = await bar.count();
    await picture(page, scheme === "light" ? "cluster" : `cluster-${scheme}`, 0);
    const after = await bar.count();
    await box("c").getByText("Drained.").waitFor();
    await operate("c", "Undrain", "Undrain", /take its share again/);
    await settled("c has its share again", (all) => all.every((n) => n.slots > slots / 4));
    await box("c").getByText("alive", { exact: true }).waitFor();
    if (before && after) return;
    assert.ok(tries < 8, "the shutter is too slow for a drain");
  }
}

if (process.env.PICTURES) {
  test("pictures of a drain", async () => {
    await page.setViewportSize({ width: 1280, height: 980 });
    for (const scheme of ["dark", "light"]) await pictureOfDrain(scheme);
  });
}

test("a node is drained by its button, and nothing but questions is asked before", async () => {
  await box("c").getByRole("button", { name: "Drain" }).click();
  await dialog().getByText(/will go to a and b/).waitFor();
  await dialog().getByRole("button", { name: "Leave it" }).click();
  await dialog().waitFor({ state: "detached" });
  assert.equal((await nodeOf("c")).state, "alive", "who leaves it changes nothing");
  await operate("c", "Drain", "Drain", /will go to a and b/);
  await box("c").getByText("Drained.").waitFor();
  const node = await nodeOf("c");
  assert.equal(node.state, "draining");
  assert.equal(node.slots ?? 0, 0, "the API counts no slot, too");
  const lives = nameIn(await where(twin));
  assert.notEqual(lives, "c", "its twin lives elsewhere");
  await page.getByRole("table", { name: "Hand-overs" }).getByRole("row", { name: /^c → [ab]/ }).first().waitFor();
  await page.getByRole("search", { name: "Find a twin" }).getByText(`on ${lives}`).waitFor();
  await cli("twin", "get", twin);
});

test("a node that lives is not removed, and takes its slots again", async () => {
  assert.equal(await box("c").getByRole("button", { name: "Remove" }).isDisabled(), true);
  await operate("c", "Undrain", "Undrain", /take its share again/);
  await settled("c has its share again", (all) => all.every((n) => n.state === "alive" && n.slots > slots / 4));
  await box("c").getByText("alive", { exact: true }).waitFor();
});

test("leadership goes where it is sent", async () => {
  const { name } = (await list()).find((n) => n.role === "voter");
  await operate(name, "Let it lead", "Transfer", new RegExp(`${name} will lead`));
  await until("it leads, as the API says", async () => (await nodeOf(name)).role === "leader");
  await box(name).getByText("leader", { exact: true }).waitFor();
});

test("a node that was stopped is shown as left, and removed for ever", async () => {
  await nodes[2].stop();
  await until("the API says that it left", async () => (await nodeOf("c"))?.state === "left");
  await box("c").getByText("left", { exact: true }).waitFor();
  await settled("the others have its slots", (all) => (all.find((n) => n.name === "c").slots ?? 0) === 0);
  await until("it may be removed", () => box("c").getByRole("button", { name: "Remove" }).isEnabled());
  await operate("c", "Remove", "Remove", /for ever/);
  await until("the API knows two nodes", async () => (await list()).length === 2);
  await box("c").waitFor({ state: "detached" });
});

test("who is no administrator sees all of it and no buttons", async () => {
  const { secret } = await cli("key", "create", "--role", "viewer", "-o", "json");
  const tab = await browser.newPage();
  await tab.goto(`${url(1)}/cluster`);
  const form = tab.getByRole("form", { name: "Sign in" });
  await form.getByLabel("API key").first().fill(secret);
  await form.getByRole("button", { name: "Sign in" }).click();
  await tab.getByRole("region", { name: "Node b" }).getByText("answers this page").waitFor();
  await tab.getByRole("img", { name: /^16.384 slots: / }).waitFor();
  assert.equal(await tab.getByRole("button", { name: /^(Drain|Add a node|Let it lead|Transfer leadership)$/ }).count(), 0);
  await tab.close();
});

test("without a quorum the room says so, and what it knows", async () => {
  assert.equal(nodes[1].kill(), true);
  await page.getByText(/^No quorum, nothing can be changed: 1 of 2 voters answer/).waitFor();
  await box("b").getByText(/^(suspect|dead)$/).waitFor();
  await box("a").getByText("answers this page").waitFor();
});

test("the browser had nothing to complain of", () => {
  assert.deepEqual(complaints, []);
});
